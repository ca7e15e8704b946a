"""The commands: what each needs, says and changes. The rules for every line are in `_line` and `_check`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from relay.address import AddressError, parse_path
from relay.model import Facts
from relay.smtp_protocol.data import DataDecoder
from relay.smtp_protocol.events import (
    Chunk,
    Close,
    Credentials,
    Data,
    Dropped,
    End,
    Event,
    Limits,
    Mail,
    Policy,
    Refused,
    StartTls,
)
from relay.smtp_protocol.lines import PROXIED, PROXY_HEADERS, screen
from relay.smtp_protocol.login import MECHANISMS, Exchange
from relay.smtp_protocol.transaction import Refusal, Transaction, read_parameters, recipient_of

_OPEN = Policy()


class Conversation:
    """One client's SMTP session. Every method that takes something returns the events that follow from it, in order.

    `asks` is what the last event asks a verdict on ("STARTTLS", "AUTH", "MAIL", "DATA", "END-OF-MESSAGE"), or "". `helo` and
    `esmtp` are what the client said of itself, `username` is the name it logged in with; `stage` is the command handled last,
    for the log. `failed_logins` counts verdicts 535.
    """

    def __init__(self, hostname: str, limits: Limits, max_size: int, policy: Policy = _OPEN) -> None:
        self.helo = ""
        self.esmtp = False
        self.username = ""
        self.failed_logins = 0
        self.asks = ""
        self.stage = "CONNECT"
        self._hostname = hostname
        self._limits = limits
        self._max_size = max_size
        self._policy = policy
        self._secure = policy.tls == "implicit"
        self._exchange: Exchange | None = None
        self._claimed = ""  # the name whose login waits for a verdict
        self._input = b""
        self._started = False  # a command line has come
        self._early = False
        self._skipping = False  # the rest of a command line that is too long
        self._closed = False
        self._errors = 0
        self._junk = 0
        self._mail: Transaction | None = None
        self._decoder: DataDecoder | None = None
        self._events: list[Event] = []

    @property
    def receiving(self) -> bool:
        """Whether a message is on its way in: after 354, before its end."""
        return self._decoder is not None and not self.asks

    @property
    def in_transaction(self) -> bool:
        """Whether MAIL has been accepted and its message is not finished."""
        return self._mail is not None

    def start(self, *, early: bool = False) -> list[Event]:
        """The greeting. `early`: the client has already sent something, which no SMTP client does."""
        self._early = early
        return [] if early else [f"220 {self._hostname} ESMTP relay\r\n".encode()]

    def receive(self, data: bytes) -> list[Event]:
        """Take what the client sent."""
        self._input = self._input + data if self._input else data
        return self._run()

    def answer(self, reply: str = "") -> list[Event]:
        """The verdict on what `asks` says: "" for yes (not for END-OF-MESSAGE), or a whole reply line without CRLF."""
        asked, self.asks = self.asks, ""
        if reply and not reply.startswith("2"):
            self._refuse(asked, reply)
            if asked == "MAIL":
                self._mail = None
            elif asked == "AUTH" and reply.startswith("535"):
                self._count_failure()
        elif asked == "STARTTLS":
            self._say(b"220 2.0.0 ready for TLS\r\n")
            self._forget_all()
        elif asked == "AUTH":
            self.username = self._claimed
            self._say(b"235 2.7.0 authentication successful\r\n")
        elif asked == "MAIL":
            self._say(b"250 2.1.0 Ok\r\n")
        elif asked == "DATA":
            self._decoder = DataDecoder(self._max_size, self._limits.max_line)
            self._say(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        else:
            self._say(f"{_UNPRINTABLE.sub('?', reply)}\r\n".encode())
            self._errors = self._junk = 0
        if asked == "END-OF-MESSAGE":
            self._decoder = self._mail = None
        return self._run()

    def drop(self, reply: str) -> None:
        """Refuse the message that is on its way in with `reply`, once it has ended; its octets are not given any more."""
        if self._decoder and not self._decoder.refusal:
            self._decoder.refusal = reply

    def give_up(self, reply: str, why: str) -> list[Event]:
        """Close for a reason of our own (a time-out, a shutdown). `reply` is a 421 without CRLF."""
        if not self._closed:
            self._say(f"{reply}\r\n".encode())
        self._close(why)
        return self._taken()

    def _run(self) -> list[Event]:
        while self._input and not self.asks and not self._closed:
            if self._decoder:
                self._take_data(self._decoder)
            elif not self._take_lines():
                break
        if self._closed:
            self._input = b""
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _say(self, reply: bytes) -> None:
        self._events.append(reply)

    def _close(self, why: str) -> None:
        self._closed = True
        self._events.append(Close(why))

    def _refuse(self, stage: str, reply: str, *, error: bool = True, recipient: str = "") -> None:
        """Say and report a refusal. Close after too many errors, and where the reply means that."""
        reply = _UNPRINTABLE.sub("?", reply)
        self._say(f"{reply}\r\n".encode())
        mail = self._mail
        recipients = tuple(r.address for r in mail.recipients.values()) if mail and stage in ("DATA", "END-OF-MESSAGE") else ()
        self._events.append(Refused(stage, reply, mail.reverse_path if mail else None, recipients or ((recipient,) if recipient else ())))
        self._errors += error
        if reply.startswith(_CLOSING):
            self._close("")
        elif self._errors > self._limits.max_errors:
            self._say(b"421 4.7.0 too many errors\r\n")
            self._close(f"too many errors after {stage}")

    # The message.

    def _take_data(self, decoder: DataDecoder) -> None:
        dropped = bool(decoder.refusal)
        decoded, rest = decoder.feed(self._input)
        self._input = rest or b""
        if decoded:
            self._events.append(Chunk(decoded))
        if decoder.refusal and not dropped:
            self._events.append(Dropped())
        if rest is None:
            return
        self.stage = "END-OF-MESSAGE"
        if decoder.refusal:
            self._refuse(self.stage, decoder.refusal)
            self._decoder = self._mail = None
        else:
            self.asks = self.stage
            self._events.append(End(Facts(size=decoder.size, eight_bit=decoder.eight_bit, longest_line=decoder.longest_line)))

    # Command lines.

    def _take_lines(self) -> bool:
        """Obey lines while commands are due; False when more input is needed for the next one."""
        if self._early or not self._started:
            self._started = True
            if self._input[0] == _TLS_HANDSHAKE and not self._secure:
                self._close(_NO_TLS if self._policy.tls == "off" else _NO_IMPLICIT_TLS)
                return False
            if self._early:
                proxied = self._input.startswith(PROXY_HEADERS)
                self._refuse(self.stage, PROXIED if proxied else "554 5.5.0 protocol synchronization: input before the greeting")
                return False
        position, found = 0, True
        while found and not (self.asks or self._decoder or self._closed):
            end = self._input.find(b"\n", position)
            found = end >= 0
            after = end + 1 if found else len(self._input)
            longest = self._longest(position)
            if self._skipping:
                position, self._skipping = after, not found
            elif after - position > longest or (not found and after - position == longest):
                self._refuse(self.stage, f"500 5.5.2 line too long: more than {longest} octets")
                position, self._skipping, self._exchange = after, not found, None
            elif found:
                line, position = self._input[position:after], after
                self._line(line, more=position < len(self._input))
        self._input = self._input[position:]
        return found

    def _longest(self, position: int) -> int:
        """How many octets the line that begins at `position` may have."""
        if self._exchange or (self._policy.logins and self._input[position : position + 5].upper() == b"AUTH "):
            return max(self._limits.max_auth, self._limits.max_command)
        return self._limits.max_command

    def _line(self, line: bytes, *, more: bool) -> None:
        """Obey one line. A bare LF at its end is taken, or an LF-only client would wait for ever."""
        whole = line.endswith(b"\r\n")
        text = line[:-2] if whole else line[:-1]
        if self._exchange:
            self._respond(self._exchange, text)
        else:
            self._command(text, whole=whole, more=more)

    def _respond(self, exchange: Exchange, text: bytes) -> None:
        self._exchange = None
        try:
            self._step(exchange, text.strip(b" "))
        except Refusal as refusal:
            self._refuse(self.stage, str(refusal))

    def _command(self, text: bytes, *, whole: bool, more: bool) -> None:
        word, _, argument = text.partition(b" ")
        verb = word.upper()
        self.stage = verb.decode() if verb in _VERBS else "UNKNOWN"
        try:
            self._check(verb, text, more=more)
            if verb == b"DATA" and not whole:
                # Its message would end with LF . LF, which ends nothing here: better to fail now than to hang.
                raise Refusal("501 5.5.2 lines must end with CR LF, and the message with CR LF . CR LF")
            _VERBS[verb](self, argument.strip(b" "))
        except Refusal as refusal:
            self._refuse(self.stage, str(refusal), error=refusal.error, recipient=_shown(verb, argument))
        except AddressError as error:
            code = "553 5.6.7" if error.kind == "utf8" else "553 5.1.7" if verb == b"MAIL" else "553 5.1.3"
            self._refuse(self.stage, f"{code} {error}", recipient=_shown(verb, argument))

    def _check(self, verb: bytes, text: bytes, *, more: bool) -> None:
        """What holds for every command line."""
        screen(verb, text, _VERBS)
        if self._policy.tls == "required" and not self._secure and verb not in _BEFORE_TLS:
            raise Refusal("530 5.7.0 STARTTLS first: switch TLS (STARTTLS) on in the client")
        if more and (verb in _LAST_IN_GROUP or (verb == b"STARTTLS" and self._offers_tls)):
            raise Refusal("554 5.5.0 protocol synchronization: input before it was due")
        if verb in _JUNK:
            self._junk += 1
            self._errors += self._junk > self._limits.max_junk
            if self._errors > self._limits.max_errors:
                raise Refusal("421 4.7.0 too many commands without a message")

    # Commands.

    @property
    def _offers_tls(self) -> bool:
        return self._policy.tls in ("optional", "required") and not self._secure

    @property
    def _offers_login(self) -> bool:
        in_clear = self._policy.local and self._policy.tls != "required"
        return self._policy.logins and (self._secure or in_clear)

    def _extensions(self) -> list[str]:
        offered = ["PIPELINING", f"SIZE {self._max_size}", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8"]
        if self._offers_tls:
            offered.append("STARTTLS")
        if self._offers_login:
            offered.append(f"AUTH {' '.join(MECHANISMS)}")
        return offered

    def _ehlo(self, argument: bytes) -> None:
        self._greet(argument, [self._hostname, *self._extensions()])

    def _helo(self, argument: bytes) -> None:
        self._greet(argument, [self._hostname])

    def _greet(self, argument: bytes, lines: list[str]) -> None:
        if not argument:
            raise Refusal("501 5.5.4 your host name is missing")
        self.helo, self.esmtp = argument.decode()[:255], len(lines) > 1
        self._mail = None
        self._say("".join([*(f"250-{line}\r\n" for line in lines[:-1]), f"250 {lines[-1]}\r\n"]).encode())

    def _starttls(self, argument: bytes) -> None:
        if self._policy.tls == "off":
            raise Refusal("502 5.5.1 command not implemented")
        if self._secure:
            raise Refusal("503 5.5.1 TLS is on already")
        if argument:
            raise Refusal("501 5.5.4 STARTTLS takes no argument")
        self.asks = "STARTTLS"
        self._events.append(StartTls())

    def _forget_all(self) -> None:
        """TLS begins: what came in clear may be somebody else's (RFC 3207 §4.2, CVE-2011-0411)."""
        self._secure = True
        self._input = b""
        self.helo, self.esmtp, self.username, self._mail = "", False, "", None

    def _auth(self, argument: bytes) -> None:
        if not self._policy.logins:
            raise Refusal("502 5.5.1 command not implemented")
        if not self._offers_login:
            raise Refusal("538 5.7.11 logins only under TLS: switch TLS on in the client")
        if not self.helo:
            raise Refusal("503 5.5.1 send EHLO first")
        if self.username:  # so there is no transaction either: it would have needed a login
            raise Refusal("503 5.5.1 logged in already")
        if not argument:
            raise Refusal("501 5.5.4 the mechanism is missing")
        mechanism, space, initial = argument.partition(b" ")
        self._step(Exchange(mechanism), initial.strip(b" ") if space else None)

    def _step(self, exchange: Exchange, response: bytes | None) -> None:
        found = exchange.take(response)
        if isinstance(found, Credentials):
            self._claimed = found.username
            self.asks = "AUTH"
            self._events.append(found)
        else:
            self._exchange = exchange
            self._say(f"334 {found}\r\n".encode())

    def _count_failure(self) -> None:
        self.failed_logins += 1
        if self.failed_logins >= self._limits.max_logins and not self._closed:
            self._say(b"421 4.7.0 too many failed logins\r\n")
            self._close("")

    def _mail_from(self, argument: bytes) -> None:
        if not self.helo:
            raise Refusal("503 5.5.1 send EHLO or HELO first")
        if self._policy.logins and not self.username:
            raise Refusal("530 5.7.0 authentication required")
        if self._mail:
            raise Refusal("503 5.5.1 nested MAIL command")
        path = _after(argument, b"FROM:")
        # The parameter comes after the address that needs it.
        smtputf8 = b" SMTPUTF8" in argument.upper()
        reverse_path, rest = parse_path(path, smtputf8=smtputf8, null=True)
        mail = Transaction(reverse_path, read_parameters(rest))
        if mail.size > self._max_size:
            raise Refusal(f"552 5.3.4 message size exceeds {self._max_size} octets")
        self._mail = mail
        self.asks = "MAIL"
        self._events.append(Mail(reverse_path, mail.size))

    def _rcpt_to(self, argument: bytes) -> None:
        if not self._mail:
            raise Refusal("503 5.5.1 send MAIL first")
        address, rest = parse_path(_after(argument, b"TO:"), smtputf8=self._mail.smtputf8, null=False)
        recipient = recipient_of(address, read_parameters(rest))
        if len(self._mail.recipients) >= self._limits.max_recipients:
            self._mail.refused += 1
            raise Refusal("452 4.5.3 too many recipients", error=self._mail.refused > self._limits.max_recipients)
        self._mail.add(recipient)
        self._say(b"250 2.1.5 Ok\r\n")

    def _data(self, argument: bytes) -> None:
        if argument:
            raise Refusal("501 5.5.4 DATA takes no argument")
        if not self._mail:
            raise Refusal("503 5.5.1 send MAIL and RCPT first")
        if not self._mail.recipients:
            raise Refusal("503 5.5.1 no valid recipients")
        self.asks = "DATA"
        self._events.append(Data(self._mail.envelope()))

    def _rset(self, argument: bytes) -> None:
        self._mail = None
        self._say(b"250 2.0.0 Ok\r\n")

    def _noop(self, argument: bytes) -> None:
        self._say(b"250 2.0.0 Ok\r\n")

    def _vrfy(self, argument: bytes) -> None:
        self._say(b"252 2.0.0 not verified; send mail and see\r\n")

    def _help(self, argument: bytes) -> None:
        more = " STARTTLS" * self._offers_tls + " AUTH" * self._offers_login
        self._say(f"214 2.0.0 commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT{more}\r\n".encode())

    def _quit(self, argument: bytes) -> None:
        self._say(b"221 2.0.0 Bye\r\n")
        self._close("")


_VERBS: Mapping[bytes, Callable[[Conversation, bytes], None]] = {
    b"EHLO": Conversation._ehlo,
    b"HELO": Conversation._helo,
    b"STARTTLS": Conversation._starttls,
    b"AUTH": Conversation._auth,
    b"MAIL": Conversation._mail_from,
    b"RCPT": Conversation._rcpt_to,
    b"DATA": Conversation._data,
    b"RSET": Conversation._rset,
    b"NOOP": Conversation._noop,
    b"VRFY": Conversation._vrfy,
    b"HELP": Conversation._help,
    b"QUIT": Conversation._quit,
}
_JUNK = frozenset({b"EHLO", b"HELO", b"RSET", b"NOOP", b"VRFY", b"HELP"})
_LAST_IN_GROUP = frozenset({b"EHLO", b"HELO", b"DATA"})  # RFC 2920 §3.1; input after the others harms nobody
_BEFORE_TLS = frozenset({b"EHLO", b"HELO", b"NOOP", b"RSET", b"QUIT", b"STARTTLS", b"HELP", b"AUTH"})  # AUTH says 538 itself
_CLOSING = ("421", "554 5.5.0")
_UNPRINTABLE = re.compile(r"[^ -~]")
_TLS_HANDSHAKE = 0x16  # the first octet of a TLS ClientHello (RFC 8446 §5.1)
_NO_TLS = "TLS hello, but this listener has no TLS: switch TLS off in the client"
_NO_IMPLICIT_TLS = "TLS hello before STARTTLS: set the client to STARTTLS, not to implicit TLS (SSL/TLS)"


def _after(argument: bytes, word: bytes) -> bytes:
    if argument[: len(word)].upper() != word:
        raise Refusal(f"501 5.5.4 syntax: {word.decode()}<address>")
    return argument[len(word) :]


def _shown(verb: bytes, argument: bytes) -> str:
    """The address of a refused RCPT as the client wrote it, for the log only."""
    return argument[3:].decode("utf-8", "replace").strip().strip("<>")[:254] if verb == b"RCPT" else ""
