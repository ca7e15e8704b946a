-- A spool of version 2, as its last release left it: sqlite3's .dump, and the two numbers in the file's header.
PRAGMA user_version = 2;
PRAGMA application_id = 1380273241;
CREATE TABLE attempt (                   -- begun, without an outcome yet
    n INTEGER NOT NULL,
    address TEXT NOT NULL,
    entry INTEGER NOT NULL,
    provider TEXT NOT NULL,
    route TEXT NOT NULL,
    started REAL NOT NULL,
    PRIMARY KEY (n, address)
) STRICT, WITHOUT ROWID;
CREATE TABLE body (
    entry INTEGER PRIMARY KEY,
    data BLOB NOT NULL                   -- what follows the header block, its empty line included
) STRICT;
INSERT INTO "body" VALUES(29327360000000000,X'0D0A48656C6C6F2C0D0A776F726C642E0D0A');
INSERT INTO "body" VALUES(29327360065536000,X'0D0A48656C6C6F2C0D0A776F726C642E0D0A');
CREATE TABLE corrupt (
    entry INTEGER PRIMARY KEY,
    why TEXT NOT NULL,
    time REAL NOT NULL
) STRICT;
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,              -- the queue id as a number
    arrived REAL NOT NULL,
    finished REAL,                       -- NULL while it is in the queue
    sender TEXT NOT NULL,
    message_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    eight_bit INTEGER NOT NULL,
    longest_line INTEGER NOT NULL,
    body INTEGER NOT NULL,               -- 0: not kept any more, 1: a row of body, 2: a file
    bounce INTEGER NOT NULL,
    via TEXT NOT NULL,                   -- JSON: [provider, ...]
    client TEXT NOT NULL,                -- JSON: [listener, address, port, name, helo, protocol, username, tls]
    parameters TEXT NOT NULL,            -- JSON: [ret, envid, smtputf8]
    edits TEXT NOT NULL,                 -- JSON: [[kind, text], ...]
    header BLOB NOT NULL
) STRICT;
INSERT INTO "entry" VALUES(29327360000000000,1790000000.0,NULL,'app@example.com','<1@app>',125,0,70,1,0,'[]','["local","127.0.0.1",40000,"localhost","app1","ESMTP","",""]','["FULL","id 1",false]','[["prepend","Received: from app1 (localhost [127.0.0.1])\r\n\tby mx; now\r\n"],["remove","bcc"]]',X'46726F6D3A20417070203C617070406578616D706C652E636F6D3E0D0A546F3A2061406578616D706C652E6E65740D0A5375626A6563743A203D3F7574662D383F713F67723D43333D42433D43333D3946653F3D0D0A4D6573736167652D49443A203C31406170703E0D0A');
INSERT INTO "entry" VALUES(29327360032768000,1790000002.0,1790000003.0,'app@example.com','<1@app>',125,0,70,0,0,'[]','["local","127.0.0.1",40000,"localhost","app1","ESMTP","",""]','["","",false]','[["prepend","Received: from app1 (localhost [127.0.0.1])\r\n\tby mx; now\r\n"],["remove","bcc"]]',X'46726F6D3A20417070203C617070406578616D706C652E636F6D3E0D0A546F3A2061406578616D706C652E6E65740D0A5375626A6563743A203D3F7574662D383F713F67723D43333D42433D43333D3946653F3D0D0A4D6573736167652D49443A203C31406170703E0D0A');
INSERT INTO "entry" VALUES(29327360065536000,1790000004.0,NULL,'app@example.com','<1@app>',125,0,70,1,0,'["other", "third"]','["local","127.0.0.1",40000,"localhost","app1","ESMTP","",""]','["","",false]','[["prepend","Received: from app1 (localhost [127.0.0.1])\r\n\tby mx; now\r\n"],["remove","bcc"]]',X'46726F6D3A20417070203C617070406578616D706C652E636F6D3E0D0A546F3A2061406578616D706C652E6E65740D0A5375626A6563743A203D3F7574662D383F713F67723D43333D42433D43333D3946653F3D0D0A4D6573736167652D49443A203C31406170703E0D0A');
CREATE TABLE mark (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    queue_id INTEGER NOT NULL,           -- no id from here on was ever given out
    attempt INTEGER NOT NULL             -- the last attempt number given out
) STRICT;
INSERT INTO "mark" VALUES(1,29327360065536001,3);
CREATE TABLE recipient (
    entry INTEGER NOT NULL,
    address TEXT NOT NULL,
    n INTEGER NOT NULL,                  -- position in the envelope
    notify TEXT NOT NULL,
    orcpt TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt REAL NOT NULL,
    due REAL,                            -- when claim may return it: next_attempt, or the end of a lease; NULL unless queued
    waits TEXT,                          -- the key it waits for, or NULL
    provider TEXT NOT NULL,
    route TEXT NOT NULL,
    since REAL NOT NULL,
    verdict TEXT NOT NULL,
    status TEXT NOT NULL,
    reply TEXT NOT NULL,
    remote TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    maybe_relayed INTEGER NOT NULL,
    told INTEGER NOT NULL,               -- no (further) notice is due: of a failure, of a success asked for, of a delay
    PRIMARY KEY (entry, address)
) STRICT, WITHOUT ROWID;
INSERT INTO "recipient" VALUES(29327360000000000,'deferred@example.net',1,'','','queued',1,1790000060.0,1790000060.0,NULL,'smarthost','default',1790000000.0,'RETRY','4.4.2','451 4.4.2 later','mx.example.net[192.0.2.1]:25','',0,0);
INSERT INTO "recipient" VALUES(29327360000000000,'failed@example.net',2,'','','failed',1,0.0,NULL,NULL,'smarthost','default',0.0,'PERM-RCPT','5.1.1','550 5.1.1 no such user','mx.example.net[192.0.2.1]:25','',0,0);
INSERT INTO "recipient" VALUES(29327360000000000,'held@example.net',4,'','','held',0,1790000005.0,NULL,NULL,'','',0.0,'','','','','',0,0);
INSERT INTO "recipient" VALUES(29327360000000000,'maybe@example.net',5,'','','queued',1,1790000060.0,1790000060.0,NULL,'smarthost','default',0.0,'UNKNOWN','4.4.2','451 4.4.2 later','mx.example.net[192.0.2.1]:25','',1,0);
INSERT INTO "recipient" VALUES(29327360000000000,'never@example.net',6,'','','queued',0,1790000000.0,1790000600.0,NULL,'','',0.0,'','','','','',0,0);
INSERT INTO "recipient" VALUES(29327360000000000,'relayed@example.net',0,'SUCCESS','','relayed',1,0.0,NULL,NULL,'smarthost','default',0.0,'OK','2.0.0','250 2.0.0 Ok','mx.example.net[192.0.2.1]:25','r-1',0,0);
INSERT INTO "recipient" VALUES(29327360000000000,'waits@example.net',3,'','','queued',0,1790432000.0,1790432000.0,'smarthost','smarthost','default',0.0,'','','','','',0,0);
INSERT INTO "recipient" VALUES(29327360032768000,'a@example.net',0,'','','relayed',1,0.0,NULL,NULL,'smarthost','default',0.0,'OK','2.0.0','250 2.0.0 Ok','mx.example.net[192.0.2.1]:25','r-1',0,0);
INSERT INTO "recipient" VALUES(29327360065536000,'also@example.net',1,'','','queued',0,1790000004.0,1790000004.0,NULL,'','',0.0,'','','','','',0,0);
INSERT INTO "recipient" VALUES(29327360065536000,'rerouted@example.net',0,'','','queued',0,1790000004.0,1790000004.0,NULL,'','',0.0,'','','','','',0,0);
CREATE TABLE step (                      -- every outcome
    id INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL,
    time REAL NOT NULL,
    address TEXT NOT NULL,
    provider TEXT NOT NULL,
    route TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    status TEXT NOT NULL,
    reply TEXT NOT NULL,
    remote TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    state TEXT NOT NULL
) STRICT;
INSERT INTO "step" VALUES(1,29327360000000000,1790000001.0,'relayed@example.net','smarthost','default',2,'OK','2.0.0','250 2.0.0 Ok','mx.example.net[192.0.2.1]:25','r-1','relayed');
INSERT INTO "step" VALUES(2,29327360000000000,1790000001.0,'deferred@example.net','smarthost','default',2,'RETRY','4.4.2','451 4.4.2 later','mx.example.net[192.0.2.1]:25','','queued');
INSERT INTO "step" VALUES(3,29327360000000000,1790000001.0,'failed@example.net','smarthost','default',2,'PERM-RCPT','5.1.1','550 5.1.1 no such user','mx.example.net[192.0.2.1]:25','','failed');
INSERT INTO "step" VALUES(4,29327360000000000,1790000001.0,'maybe@example.net','smarthost','default',2,'UNKNOWN','4.4.2','451 4.4.2 later','mx.example.net[192.0.2.1]:25','','queued');
INSERT INTO "step" VALUES(5,29327360032768000,1790000003.0,'a@example.net','smarthost','default',3,'OK','2.0.0','250 2.0.0 Ok','mx.example.net[192.0.2.1]:25','r-1','relayed');
CREATE INDEX entry_open ON entry (id) WHERE finished IS NULL;
CREATE INDEX entry_kept ON entry (finished) WHERE finished IS NOT NULL AND body <> 0;
CREATE INDEX entry_sender ON entry (sender COLLATE NOCASE);
CREATE INDEX entry_message_id ON entry (message_id) WHERE message_id <> '';
CREATE INDEX recipient_due ON recipient (due, entry) WHERE due IS NOT NULL;
CREATE INDEX recipient_waits ON recipient (waits, entry) WHERE waits IS NOT NULL;
CREATE INDEX recipient_address ON recipient (address COLLATE NOCASE);
CREATE INDEX step_entry ON step (entry);
CREATE INDEX step_remote_id ON step (remote_id) WHERE remote_id <> '';
CREATE INDEX recipient_late ON recipient (entry) WHERE told = 0 AND state = 'queued' AND (attempts > 0 OR waits IS NOT NULL);
