<?php
// TO FROM < message; hands the message to mail(), whose sendmail_path leads to msmtp
[, $to, $from] = $argv;
[$head, $body] = explode("\r\n\r\n", stream_get_contents(STDIN), 2);
preg_match('/^Subject: (.*)$/m', $head, $subject);
$others = preg_replace('/^Subject: .*\r\n/m', "", $head . "\r\n");
$body = preg_replace('/\n$/D', "", str_replace("\r\n", "\n", $body)); // mail() ends the last line itself
exit(mail($to, trim($subject[1]), $body, trim($others), "-f" . escapeshellarg($from)) ? 0 : 1);
