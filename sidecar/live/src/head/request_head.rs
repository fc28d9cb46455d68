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

    /// Whether something of a head has come: empty lines are nothing.
    pub fn begun(&self) -> bool {
        self.line.begun()
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
                if self.length.is_some() || self.chunked || http10 {
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
