//! The head of a request: read as it comes, judged, and written anew with framing of ours, so that no reading of it can
//! differ behind us. It must not know connections, nor what is mirrored.

use super::connection_header::{name_of, Connection};
use super::header_lines::{write, HeaderLines, Line, Scanned};
use super::refusal::Refusal;
use super::request_line::{RequestLine, Target};
use super::rules::{is_host, length, special, Rules, Special, MAX_HEAD};
use super::{Framing, Reading};

/// A request's head as it is sent on.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Request line, header lines, the line that frames, and the empty line.
    pub bytes: Vec<u8>,
    method: usize,
    target: usize,
    lines: usize,
    framing_at: usize,
    pub framing: Framing,
    /// It waits for `100 Continue`.
    pub expects: bool,
    pub http10: bool,
    /// The client's wish.
    pub keep_alive: bool,
    /// The client's, none when it sent none.
    pub id: Option<Vec<u8>>,
    pub is_post: bool,
    pub is_head: bool,
    pub idempotent: bool,
}

impl RequestHead {
    pub fn method(&self) -> &[u8] {
        &self.bytes[..self.method]
    }

    /// Path and query.
    pub fn target(&self) -> &[u8] {
        &self.bytes[self.method + 1..self.method + 1 + self.target]
    }

    /// A header line of ours, before the framing.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let mut line = Vec::with_capacity(name.len() + value.len() + 4);
        write(name, value, &mut line);
        self.bytes.splice(self.framing_at..self.framing_at, line.iter().copied());
        self.framing_at += line.len();
    }

    /// The header lines of the mirrored copy; its sender frames it.
    pub fn mirror_lines(&self, forward_credentials: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-ModelCanary-Shadow: 1\r\naccept-encoding: identity\r\n");
        self.write_lines(true, forward_credentials, out);
    }

    /// The head as the candidate gets it where it answers a user: framed for a body that is whole.
    pub fn to_candidate(&self, forward_credentials: bool, length: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.lines]);
        self.write_lines(false, forward_credentials, out);
        out.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
    }

    fn write_lines(&self, plain_answer: bool, forward_credentials: bool, out: &mut Vec<u8>) {
        for line in self.bytes[self.lines..self.framing_at].split_inclusive(|&byte| byte == b'\n') {
            let left_out = match special(name_of(line)) {
                Special::AcceptEncoding => plain_answer,
                Special::Credential => !forward_credentials,
                _ => false,
            };
            if !left_out {
                out.extend_from_slice(line);
            }
        }
    }
}

#[derive(Default)]
pub struct RequestReader {
    line: RequestLine,
    lines: Option<HeaderLines>,
    read: Read,
}

/// What the header lines said so far.
#[derive(Default)]
struct Read {
    /// The head as it is sent on, as far as it has come.
    out: Vec<u8>,
    target_at: usize,
    lines_at: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    expects: bool,
    /// Where its value is in the input.
    host: Option<(usize, usize)>,
    id: Option<Vec<u8>>,
    ce_id: Option<Vec<u8>>,
    connection: Connection,
}

impl RequestReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// `input` begins with the head's first byte, and is what it was with more behind it, until it is whole or refused.
    pub fn read(&mut self, input: &[u8], rules: &Rules) -> Reading<RequestHead> {
        let reading = match self.advance(input, rules) {
            Ok(None) if input.len() > MAX_HEAD => Err(Refusal::HeadTooLarge),
            Ok(Some((_, used))) if used > MAX_HEAD => Err(Refusal::HeadTooLarge),
            reading => reading,
        };
        match reading {
            Ok(None) => Reading::More,
            Ok(Some((head, used))) => {
                *self = Self::default();
                Reading::Whole(head, used)
            }
            Err(refusal) => Reading::Refused(refusal),
        }
    }

    fn advance(&mut self, input: &[u8], rules: &Rules) -> Result<Option<(RequestHead, usize)>, Refusal> {
        if self.lines.is_none() {
            let Some(end) = self.line.read(input)? else { return Ok(None) };
            self.lines = Some(HeaderLines::new(end));
            self.read.begin(&self.line, input);
        }
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let http10 = self.line.http10;
        let read = &mut self.read;
        match lines.scan(input, |line| read.line(&line, rules, http10)) {
            Scanned::More => Ok(None),
            Scanned::End(used) => Ok(Some((self.finish(input, rules)?, used))),
            Scanned::Wrong => Err(Refusal::BadRequest),
            Scanned::TooMany => Err(Refusal::HeadTooLarge),
            Scanned::Told(refusal) => Err(refusal),
        }
    }

    fn finish(&mut self, input: &[u8], rules: &Rules) -> Result<RequestHead, Refusal> {
        let read = &mut self.read;
        let line = &self.line;
        if read.upgrade && read.connection.upgrade && line.http10 {
            return Err(Refusal::BadRequest);
        }
        if read.connection.names_any() {
            read.leave_named_out(rules);
        }
        let host = match read.host {
            Some((start, end)) => &input[start..end],
            None if line.http10 => {
                write(b"Host", &rules.authority, &mut read.out);
                &rules.authority
            }
            None => return Err(Refusal::BadRequest),
        };
        if !is_host(host) {
            return Err(Refusal::BadRequest);
        }
        let mut target = line.target_end - line.target_start;
        if line.target == Target::Absolute {
            target = read.origin_form(&input[line.target_start..line.target_end], host)?;
        }
        let out = &mut read.out;
        let framing_at = out.len();
        let framing = match (read.length, read.chunked) {
            (Some(length), _) => {
                out.extend_from_slice(b"content-length: ");
                write_number(length, out);
                out.extend_from_slice(b"\r\n\r\n");
                Framing::Length(length)
            }
            (None, true) => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                Framing::Chunked
            }
            (None, false) => {
                out.extend_from_slice(b"\r\n");
                Framing::None
            }
        };
        if out.len() > MAX_HEAD {
            return Err(Refusal::HeadTooLarge);
        }
        let bytes = std::mem::take(out);
        let method = &bytes[..read.target_at - 1];
        Ok(RequestHead {
            is_post: method == b"POST",
            is_head: method == b"HEAD",
            idempotent: matches!(method, b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE"),
            method: method.len(),
            target,
            lines: read.lines_at,
            framing_at,
            framing,
            expects: read.expects && !line.http10,
            http10: line.http10,
            keep_alive: read.connection.stays(line.http10),
            id: read.id.take().or_else(|| read.ce_id.take()),
            bytes,
        })
    }
}

impl Read {
    fn begin(&mut self, line: &RequestLine, input: &[u8]) {
        // What has come is mostly the whole head: the rest is for the framing, an id and a Host of ours.
        self.out.reserve(input.len().min(MAX_HEAD) + 96);
        self.out.extend_from_slice(&input[line.method_start..line.method_end]);
        self.out.push(b' ');
        self.target_at = self.out.len();
        self.out.extend_from_slice(&input[line.target_start..line.target_end]);
        self.out.extend_from_slice(b" HTTP/1.1\r\n");
        self.lines_at = self.out.len();
    }

    fn line(&mut self, line: &Line, rules: &Rules, http10: bool) -> Result<(), Refusal> {
        let value = line.value;
        match rules.special(line.name) {
            Special::Plain | Special::AcceptEncoding | Special::Credential => {}
            Special::Host => {
                if self.host.is_some() {
                    return Err(Refusal::BadRequest);
                }
                self.host = Some((line.value_at, line.value_at + value.len()));
            }
            Special::Id => {
                if value.is_empty() {
                    return Ok(());
                }
                if self.id.is_none() {
                    self.id = Some(value.to_vec());
                }
            }
            Special::CeId => {
                if self.ce_id.is_none() && !value.is_empty() {
                    self.ce_id = Some(value.to_vec());
                }
            }
            Special::Length => {
                if self.length.is_some() || self.chunked {
                    return Err(Refusal::BadRequest);
                }
                self.length = Some(length(value.trim_ascii_end()).ok_or(Refusal::BadRequest)?);
                return Ok(());
            }
            Special::Coding => {
                if self.length.is_some() || self.chunked || http10 || value.is_empty() {
                    return Err(Refusal::BadRequest);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::NotImplemented);
                }
                self.chunked = true;
                return Ok(());
            }
            Special::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::BadRequest);
                }
                self.expects = true;
                return Ok(());
            }
            Special::Connection => {
                self.connection.read(line, true);
                return Ok(());
            }
            Special::ProxyConnection => {
                self.connection.read(line, false);
                return Ok(());
            }
            Special::Upgrade => {
                self.upgrade = true;
                return Ok(());
            }
            Special::Ours | Special::Dropped => return Ok(()),
        }
        line.write(&mut self.out);
        Ok(())
    }

    /// What `Connection` names concerns one connection, and may be the id or what is expected.
    fn leave_named_out(&mut self, rules: &Rules) {
        let lines = self.out.split_off(self.lines_at);
        self.connection.without_named(&lines, &mut self.out);
        if self.connection.names(rules.id_header()) {
            self.id = None;
        }
        if self.connection.names(b"ce-id") {
            self.ce_id = None;
        }
        if self.connection.names(b"expect") {
            self.expects = false;
        }
    }

    /// The path of an absolute target for the very host of the request takes its place.
    fn origin_form(&mut self, target: &[u8], host: &[u8]) -> Result<usize, Refusal> {
        let rest = &target[b"http://".len()..];
        let (authority, path) = rest.split_at(memchr::memchr(b'/', rest).unwrap_or(rest.len()));
        if !authority.eq_ignore_ascii_case(host) {
            return Err(Refusal::BadRequest);
        }
        let path: &[u8] = if path.is_empty() { b"/" } else { path };
        self.out.splice(self.target_at..self.target_at + target.len(), path.iter().copied());
        self.lines_at -= target.len() - path.len();
        Ok(path.len())
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::new("X-Request-Id", "127.0.0.1:8080")
    }

    /// The same whole, in two pieces however cut, and byte by byte.
    fn read(input: &[u8]) -> Result<Option<(RequestHead, usize)>, u16> {
        let rules = rules();
        let feed = |ends: &[usize]| {
            let mut reader = RequestReader::new();
            for &end in ends {
                match reader.read(&input[..end], &rules) {
                    Reading::More => {}
                    Reading::Whole(head, used) => return Ok(Some((head, used))),
                    Reading::Refused(refusal) => return Err(refusal.status()),
                }
            }
            Ok(None)
        };
        let whole = feed(&[input.len()]);
        let told = format!("{whole:?}");
        if input.len() < 2000 {
            assert_eq!(format!("{:?}", feed(&(1..=input.len()).collect::<Vec<_>>())), told);
            for cut in 1..input.len() {
                assert_eq!(format!("{:?}", feed(&[cut, input.len()])), told, "cut at {cut}");
            }
        }
        whole
    }

    fn head(lines: &str) -> RequestHead {
        let input = format!("POST /x HTTP/1.1\r\n{lines}\r\n");
        match read(input.as_bytes()) {
            Ok(Some((head, used))) => {
                assert_eq!(used, input.len());
                head
            }
            other => panic!("{other:?} of {input:?}"),
        }
    }

    fn sent_on(lines: &str) -> String {
        String::from_utf8_lossy(&head(lines).bytes).into_owned()
    }

    fn refused(input: &str, status: u16) {
        assert_eq!(read(input.as_bytes()).map(|_| ()), Err(status), "{input:?}");
    }

    fn lines_refused(lines: &str, status: u16) {
        refused(&format!("POST /x HTTP/1.1\r\n{lines}\r\n"), status);
    }

    #[test]
    fn a_head_is_written_anew_with_framing_of_ours_at_its_end() {
        assert_eq!(
            sent_on("Content-Length: 005 \r\nhost:a\r\nX-A:\t 1 \r\nX-B:\r\nX-C:\t2\r\n"),
            "POST /x HTTP/1.1\r\nhost: a\r\nX-A: 1 \r\nX-B: \r\nX-C: 2\r\ncontent-length: 5\r\n\r\n"
        );
        assert_eq!(
            sent_on("Transfer-Encoding: CHUNKED\r\nHost: a\r\n"),
            "POST /x HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(sent_on("Host: a\r\n"), "POST /x HTTP/1.1\r\nHost: a\r\n\r\n");
    }

    #[test]
    fn what_is_behind_a_head_is_left_and_the_reader_is_as_new() {
        let (rules, mut reader) = (rules(), RequestReader::new());
        let input = b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n";
        let Reading::Whole(first, used) = reader.read(input, &rules) else { panic!() };
        let Reading::Whole(second, rest) = reader.read(&input[used..], &rules) else { panic!() };
        assert_eq!((first.target(), second.target(), used + rest), (&b"/a"[..], &b"/b"[..], input.len()));
    }

    #[test]
    fn what_it_is_known_by() {
        let told = head("Host: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n");
        assert_eq!((told.method(), told.target(), told.framing), (&b"POST"[..], &b"/x"[..], Framing::Length(5)));
        assert!(told.expects && told.keep_alive && told.is_post && !told.is_head && !told.idempotent && !told.http10);
        for (method, idempotent) in [
            ("GET", true),
            ("HEAD", true),
            ("PUT", true),
            ("DELETE", true),
            ("OPTIONS", true),
            ("TRACE", true),
            ("PATCH", false),
        ] {
            let input = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            let Ok(Some((told, _))) = read(input.as_bytes()) else { panic!("{method}") };
            assert_eq!((told.idempotent, told.is_head, told.is_post), (idempotent, method == "HEAD", false));
        }
    }

    #[test]
    fn lines_of_one_connection_and_ours_are_dropped() {
        assert_eq!(
            sent_on(
                "Host: a\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: x\r\nUpgrade: x\r\nHTTP2-Settings: x\r\n\
                 Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\n\
                 X-ModelCanary-Shadow: 1\r\nConnection: x-a, upgrade\r\nX-A: 1\r\nExpect: 100-continue\r\n"
            ),
            "POST /x HTTP/1.1\r\nHost: a\r\n\r\n"
        );
    }

    #[test]
    fn connection_names_the_id_and_the_expectation_too() {
        let told = head("Host: a\r\nX-Request-Id: 1\r\nCe-Id: 2\r\nExpect: 100-continue\r\nConnection: x-request-id,Ce-ID,expect\r\n");
        assert_eq!((told.id, told.expects), (None, false));
        assert_eq!(told.bytes, b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n");
    }

    #[test]
    fn the_id_is_the_first_of_its_header_or_ce_id() {
        assert_eq!(
            head("Host: a\r\nCe-Id: c\r\nX-Request-ID:\r\nX-Request-Id: 1\r\nX-Request-Id: 2\r\n").id.as_deref(),
            Some(&b"1"[..])
        );
        assert_eq!(head("Host: a\r\nCe-Id:\r\nce-id: c\r\n").id.as_deref(), Some(&b"c"[..]));
        assert_eq!(head("Host: a\r\n").id, None);
        assert_eq!(sent_on("Host: a\r\nX-Request-Id: \r\n"), "POST /x HTTP/1.1\r\nHost: a\r\n\r\n");
    }

    #[test]
    fn length_and_coding_exclude_each_other_and_themselves() {
        let (length, coding) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
        for lines in [[length, length], [length, coding], [coding, length], [coding, coding]] {
            lines_refused(&format!("Host: a\r\n{}", lines.concat()), 400);
        }
        for value in ["", "+5", "5, 5", "5 6", "18446744073709551616", "5\u{b}"] {
            lines_refused(&format!("Host: a\r\nContent-Length: {value}\r\n"), 400);
        }
    }

    #[test]
    fn a_coding_is_chunked_or_not_implemented() {
        for value in ["gzip", "gzip, chunked", "chunked, chunked", "chunked ", "xchunked", "identity"] {
            lines_refused(&format!("Host: a\r\nTransfer-Encoding: {value}\r\n"), 501);
        }
        lines_refused("Host: a\r\nTransfer-Encoding:\r\n", 400);
        refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    }

    #[test]
    fn there_is_one_host_and_it_may_be_one() {
        lines_refused("X-A: 1\r\n", 400);
        lines_refused("Host: a\r\nhOST: a\r\n", 400);
        lines_refused("Host:\r\n", 400);
        lines_refused("Host: a/b\r\n", 400);
        lines_refused("Host: a \r\n", 400);
    }

    #[test]
    fn http_1_0_may_leave_out_the_host_and_waits_for_no_100() {
        let input = b"GET / HTTP/1.0\r\nExpect: 100-continue\r\nX-A: 1\r\n\r\n";
        let Ok(Some((told, _))) = read(input) else { panic!() };
        assert_eq!(told.bytes, b"GET / HTTP/1.1\r\nX-A: 1\r\nHost: 127.0.0.1:8080\r\n\r\n");
        assert!(told.http10 && !told.keep_alive && !told.expects);
        let Ok(Some((told, _))) = read(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n") else {
            panic!()
        };
        assert!(told.keep_alive);
    }

    #[test]
    fn an_upgrade_is_plain_http_but_not_in_http_1_0() {
        assert_eq!(
            sent_on("Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n"),
            "POST /x HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\n"
        );
        refused("GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 400);
    }

    #[test]
    fn an_expectation_that_is_not_met_is_refused() {
        for value in ["", "200-ok", "100-continue, x"] {
            lines_refused(&format!("Host: a\r\nExpect: {value}\r\n"), 400);
        }
    }

    #[test]
    fn an_absolute_target_is_of_the_very_host_and_becomes_a_path() {
        for (target, path) in [("http://a/x?http://b/", "/x?http://b/"), ("HTTP://A", "/")] {
            let input = format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n");
            let Ok(Some((told, _))) = read(input.as_bytes()) else { panic!("{target}") };
            assert_eq!(told.target(), path.as_bytes());
            let mut candidate = Vec::new();
            told.to_candidate(false, 2, &mut candidate);
            let sent = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n");
            assert_eq!(told.bytes, format!("{sent}\r\n").as_bytes());
            assert_eq!(candidate, format!("{sent}content-length: 2\r\n\r\n").as_bytes());
            let mut copy = Vec::new();
            told.mirror_lines(false, &mut copy);
            assert!(copy.ends_with(b"accept-encoding: identity\r\nHost: a\r\nX-A: 1\r\n"));
        }
        for target in ["http://b/x", "http://a:80/x", "http://u@a/x", "http:///x", "http://a?x"] {
            refused(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
        }
    }

    #[test]
    fn a_line_that_can_be_read_in_two_ways_is_refused_before_the_head_ends() {
        for line in [
            "X-A : 1",
            "X A: 1",
            ": 1",
            "garbage\r",
            "X\u{0}A: 1",
            "X-A: 1\u{0}",
            "X-A: 1\u{7f}",
            "X-A: 1\n",
            "X-A: 1\rx",
        ] {
            refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}"), 400);
        }
        refused("GET / HTTP/1.1\r\n Host: a", 400);
        refused("GET / HTTP/1.1\r\nX-A: 1\r\n ", 400);
        refused("GET / HTTP/1.1\r\nX-A:\r\n\t", 400);
        refused("GET / HTTP/1.1\r\nHost: a\r\n\rx", 400);
        refused("GET / HTTP/1.1\r\nHost: a\r\n\n", 400);
    }

    #[test]
    fn a_byte_that_was_read_is_not_read_again() {
        let rules = rules();
        let long = "a".repeat(500);
        let input = format!("\r\nPOST    /{long}    HTTP/1.1\r\nHost: a\r\nX-{long}: \t {long}\r\nX-A: {long}\r\n\r\n");
        let host = input.find(": a\r\n").map_or(0, |at| at + 2);
        let mut bytes = input.clone().into_bytes();
        let mut reader = RequestReader::new();
        for end in 1..input.len() {
            // Of the method, of the version and of a line's end a few bytes may wait for those behind them.
            bytes[..end.saturating_sub(16)].fill(b'\n');
            bytes[host] = b'a';
            assert!(matches!(reader.read(&bytes[..end], &rules), Reading::More), "at {end}");
        }
        assert!(matches!(reader.read(&bytes, &rules), Reading::Whole(..)));
    }

    #[test]
    fn a_head_has_256_lines_at_most() {
        let lines = |count: usize| "X-A: 1\r\n".repeat(count);
        assert!(head(&format!("Host: a\r\n{}", lines(255))).bytes.len() > 2000);
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}", lines(256)), 431);
    }

    #[test]
    fn a_head_has_64_kib_at_most_however_it_comes() {
        let rules = rules();
        let input = |size: usize| {
            let begin = "GET / HTTP/1.1\r\nHost: a\r\nX-A: ";
            format!("{begin}{}\r\n\r\n", "a".repeat(size - begin.len() - 4))
        };
        assert!(matches!(read(input(MAX_HEAD).as_bytes()), Ok(Some(_))));
        refused(&input(MAX_HEAD + 1), 431);
        let mut reader = RequestReader::new();
        let begun = input(MAX_HEAD + 8);
        assert!(matches!(reader.read(&begun.as_bytes()[..MAX_HEAD], &rules), Reading::More));
        let more = reader.read(&begun.as_bytes()[..=MAX_HEAD], &rules);
        assert!(matches!(more, Reading::Refused(Refusal::HeadTooLarge)));
        refused(&"\r\n".repeat(MAX_HEAD), 431);
        // What is left out of it counts as well.
        refused(&input(MAX_HEAD + 1).replace("X-A: ", "TE:  "), 431);
        // Written anew it is longer by a space.
        refused(&input(MAX_HEAD).replace("X-A: a", "X-A:aa"), 431);
    }

    #[test]
    fn a_copy_says_that_it_is_one_and_is_answered_as_it_is() {
        let told = head(
            "Host: a\r\nAccept-Encoding: gzip\r\nCookie: b\r\nAuthorization: c\r\nX-A: 1\r\nContent-Length: 5\r\n",
        );
        let copy = |credentials: bool| {
            let mut lines = Vec::new();
            told.mirror_lines(credentials, &mut lines);
            String::from_utf8_lossy(&lines).into_owned()
        };
        let ours = "X-ModelCanary-Shadow: 1\r\naccept-encoding: identity\r\nHost: a\r\n";
        assert_eq!(copy(false), format!("{ours}X-A: 1\r\n"));
        assert_eq!(copy(true), format!("{ours}Cookie: b\r\nAuthorization: c\r\nX-A: 1\r\n"));
        let mut candidate = Vec::new();
        told.to_candidate(false, 7, &mut candidate);
        assert_eq!(
            candidate,
            b"POST /x HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nX-A: 1\r\ncontent-length: 7\r\n\r\n"
        );
    }

    #[test]
    fn a_line_of_ours_is_before_the_framing_and_in_the_copies() {
        let mut told = head("Host: a\r\nContent-Length: 5\r\n");
        told.add(b"X-Request-Id", b"1");
        told.add(b"X-B", b"2");
        assert_eq!(
            told.bytes,
            b"POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\nX-B: 2\r\ncontent-length: 5\r\n\r\n"
        );
        let mut copy = Vec::new();
        told.mirror_lines(false, &mut copy);
        assert!(copy.ends_with(b"Host: a\r\nX-Request-Id: 1\r\nX-B: 2\r\n"));
    }
}
