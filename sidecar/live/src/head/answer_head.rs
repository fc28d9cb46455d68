//! The head of a model's answer: read as it comes, judged, and its lines written anew. It must not know who asked.

use super::connection_header::Connection;
use super::header_lines::{HeaderLines, Line, Scanned};
use super::refusal::Refusal;
use super::rules::{length, Rules, Special, MAX_HEAD};
use super::Reading;

#[derive(Debug)]
pub struct AnswerHead {
    /// Below 200: another one follows at once, whatever this one says of a body.
    pub status: u16,
    /// End-to-end header lines, without framing.
    pub lines: Vec<u8>,
    pub length: Option<u64>,
    pub chunked: bool,
    /// The model leaves the connection open, by its version and what it says.
    pub keep: bool,
}

#[derive(Default)]
pub struct AnswerReader {
    first: Option<First>,
    lines: Option<HeaderLines>,
    read: Read,
    /// Empty lines before it, and behind them what was looked at.
    at: usize,
    begun: bool,
}

#[derive(Clone, Copy)]
struct First {
    status: u16,
    http10: bool,
}

#[derive(Default)]
struct Read {
    out: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
    connection: Connection,
}

/// It cannot be an answer.
struct Malformed;

/// `HTTP/1.1 200`
const STATUS: usize = 12;

impl AnswerReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// As `RequestReader::read`. `minted`: the id is ours, and the model's own is left out, since labels come with ours.
    pub fn read(&mut self, input: &[u8], rules: &Rules, minted: bool) -> Reading<AnswerHead> {
        match self.advance(input, rules, minted) {
            Ok(None) if input.len() <= MAX_HEAD => Reading::More,
            Ok(Some((head, used))) if used <= MAX_HEAD => {
                *self = Self::default();
                Reading::Whole(head, used)
            }
            _ => Reading::Refused(Refusal::BadGateway),
        }
    }

    fn advance(&mut self, input: &[u8], rules: &Rules, minted: bool) -> Result<Option<(AnswerHead, usize)>, Malformed> {
        let Some(first) = self.first_line(input)? else { return Ok(None) };
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let read = &mut self.read;
        match lines.scan(input, |line| read.line(&line, rules, minted)) {
            Scanned::More => Ok(None),
            Scanned::End(used) => Ok(Some((self.finish(first), used))),
            Scanned::Wrong | Scanned::TooMany | Scanned::Told(Malformed) => Err(Malformed),
        }
    }

    fn first_line(&mut self, input: &[u8]) -> Result<Option<First>, Malformed> {
        if self.first.is_some() && self.lines.is_some() {
            return Ok(self.first);
        }
        if !self.begun {
            while let Some(b'\r' | b'\n') = input.get(self.at) {
                self.at += 1;
            }
            if self.at == input.len() {
                return Ok(None);
            }
            self.begun = true;
        }
        let first = match self.first {
            Some(first) => first,
            None => {
                let Some(first) = status(&input[self.at..])? else { return Ok(None) };
                self.at += STATUS;
                *self.first.insert(first)
            }
        };
        // The reason is replaced: nobody may go by it (RFC 9110, 15.1).
        let rest = &input[self.at..];
        self.at += memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        match (input.get(self.at), input.get(self.at + 1)) {
            (None, _) | (Some(b'\r'), None) => Ok(None),
            (Some(b'\r'), Some(b'\n')) => {
                self.lines = Some(HeaderLines::new(self.at + 2));
                self.read.out.reserve(input.len().min(MAX_HEAD));
                Ok(self.first)
            }
            _ => Err(Malformed),
        }
        .map(|read| read.map(|_| first))
    }

    fn finish(&mut self, first: First) -> AnswerHead {
        let read = &mut self.read;
        let mut lines = std::mem::take(&mut read.out);
        if read.connection.names_any() {
            let all = std::mem::take(&mut lines);
            read.connection.without_named(&all, &mut lines);
        }
        AnswerHead {
            status: first.status,
            lines,
            length: read.length,
            chunked: read.chunked,
            keep: read.connection.stays(first.http10),
        }
    }
}

impl Read {
    fn line(&mut self, line: &Line, rules: &Rules, minted: bool) -> Result<(), Malformed> {
        match rules.special(line.name) {
            Special::Length => {
                if self.length.is_some() || self.chunked {
                    return Err(Malformed);
                }
                self.length = Some(length(line.value.trim_ascii_end()).ok_or(Malformed)?);
            }
            Special::Coding => {
                if self.length.is_some() || self.chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed);
                }
                self.chunked = true;
            }
            Special::Connection => self.connection.read(line, true),
            Special::ProxyConnection => self.connection.read(line, false),
            Special::Dropped | Special::Upgrade => {}
            Special::Id if minted => {}
            _ => line.write(&mut self.out),
        }
        Ok(())
    }
}

/// Version and status, once the byte behind them is here.
fn status(input: &[u8]) -> Result<Option<First>, Malformed> {
    for (at, &byte) in input.iter().enumerate().take(STATUS + 1) {
        let sound = match at {
            0..=4 => byte == b"HTTP/"[at],
            5 => matches!(byte, b'0' | b'1'),
            6 => byte == b'.',
            7 => matches!(&input[5..8], b"1.1" | b"1.0" | b"0.9"),
            8 => byte == b' ',
            9 => matches!(byte, b'1'..=b'9'),
            10 | 11 => byte.is_ascii_digit(),
            _ => matches!(byte, b' ' | b'\r'),
        };
        if !sound {
            return Err(Malformed);
        }
    }
    if input.len() <= STATUS {
        return Ok(None);
    }
    let status = input[9..12].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if status == 101 {
        return Err(Malformed); // we never ask for another protocol
    }
    Ok(Some(First { status, http10: &input[5..8] != b"1.1" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same whole, in two pieces however cut, and byte by byte.
    fn read(input: &str, minted: bool) -> Option<AnswerHead> {
        let rules = Rules::new("X-Request-Id", "a");
        let feed = |ends: &[usize]| {
            let mut reader = AnswerReader::new();
            for &end in ends {
                match reader.read(&input.as_bytes()[..end], &rules, minted) {
                    Reading::More => {}
                    Reading::Whole(head, used) => {
                        assert_eq!(used, input.len());
                        return Some(head);
                    }
                    Reading::Refused(refusal) => {
                        assert_eq!(refusal, Refusal::BadGateway);
                        return None;
                    }
                }
            }
            panic!("more is needed of {input:?}")
        };
        let whole = feed(&[input.len()]);
        if input.len() < 2000 {
            let told = format!("{whole:?}");
            assert_eq!(format!("{:?}", feed(&(1..=input.len()).collect::<Vec<_>>())), told);
            for cut in 1..input.len() {
                assert_eq!(format!("{:?}", feed(&[cut, input.len()])), told, "cut at {cut}");
            }
        }
        whole
    }

    fn head(status: &str, lines: &str) -> AnswerHead {
        read(&format!("{status}\r\n{lines}\r\n"), false).unwrap_or_else(|| panic!("{status:?} {lines:?}"))
    }

    fn refused(input: &str) {
        assert!(read(input, false).is_none(), "{input:?}");
    }

    #[test]
    fn its_lines_are_end_to_end_and_its_framing_is_told() {
        let told = head(
            "HTTP/1.1 200 OK",
            "X-A:1\r\nContent-Length: 07 \r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nConnection: x-b\r\nX-B: 2\r\nX-ModelCanary-A: 3\r\n",
        );
        assert_eq!((told.status, told.length, told.chunked, told.keep), (200, Some(7), false, true));
        assert_eq!(told.lines, b"X-A: 1\r\nX-ModelCanary-A: 3\r\n");
        assert!(head("HTTP/1.1 200 OK", "Transfer-Encoding: Chunked\r\n").chunked);
        assert_eq!(head("HTTP/1.1 200 OK", "").length, None);
    }

    #[test]
    fn the_models_own_id_is_left_out_where_ours_is_given() {
        let input = "HTTP/1.1 200 OK\r\nX-Request-ID: theirs\r\nCe-Id: c\r\n\r\n";
        assert_eq!(read(input, true).map(|head| head.lines), Some(b"Ce-Id: c\r\n".to_vec()));
        assert_eq!(read(input, false).map(|head| head.lines), Some(b"X-Request-ID: theirs\r\nCe-Id: c\r\n".to_vec()));
    }

    #[test]
    fn a_connection_stays_by_version_and_what_is_said() {
        assert!(!head("HTTP/1.1 200 OK", "Connection: close\r\n").keep);
        assert!(!head("HTTP/1.0 200 OK", "").keep);
        assert!(!head("HTTP/0.9 200 OK", "").keep);
        assert!(head("HTTP/1.0 200 OK", "Connection: Keep-Alive\r\n").keep);
    }

    #[test]
    fn a_reason_may_be_anything_of_one_line() {
        for status in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 O\u{0}K é", "\r\n\nHTTP/1.1 200 OK"] {
            assert_eq!(head(status, "").status, 200);
        }
        refused("HTTP/1.1 200 OK\rx");
        refused("HTTP/1.1 200 OK\n");
        refused("HTTP/1.1 200\n");
    }

    #[test]
    fn what_begins_as_no_answer_does_is_refused_at_once() {
        for begin in [
            "GET",
            "HTTP/2",
            "HTTP/1.2",
            "http",
            "ICY",
            "RTSP/1.0",
            " HTTP",
            "HTTP/1.1\t",
            "HTTP/1.1  ",
            "HTTP/1.1 2x",
            "HTTP/1.1 20 ",
            "HTTP/1.1 2000",
            "HTTP/1.1 099",
            "HTTP/1.1 -",
            "HTTP/1.1 200\t",
            "\u{0}",
        ] {
            refused(begin);
        }
    }

    #[test]
    fn an_interim_answer_is_told_but_no_switch_of_protocols() {
        assert_eq!(head("HTTP/1.1 100 Continue", "Content-Length: 2\r\n").status, 100);
        assert_eq!(head("HTTP/1.1 103 Early Hints", "Link: </a>\r\n").status, 103);
        refused("HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: gzip\r\n");
        refused("HTTP/1.1 101 Switching Protocols\r\n");
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_refused() {
        let (length, coding) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
        for lines in [[length, length], [length, coding], [coding, length], [coding, coding]] {
            refused(&format!("HTTP/1.1 200 OK\r\n{}", lines.concat()));
        }
        for line in [
            "Content-Length:",
            "Content-Length: +2",
            "Content-Length: 2, 2",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding:",
        ] {
            refused(&format!("HTTP/1.1 200 OK\r\n{line}\r\n"));
        }
    }

    #[test]
    fn a_head_is_bounded_in_lines_and_bytes() {
        assert_eq!(head("HTTP/1.1 200 OK", &"X-A: 1\r\n".repeat(256)).lines.len(), 256 * 8);
        refused(&format!("HTTP/1.1 200 OK\r\n{}", "X-A: 1\r\n".repeat(257)));
        let input = |size: usize| format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(size - 26));
        assert!(read(&input(MAX_HEAD), false).is_some());
        refused(&input(MAX_HEAD + 1));
        refused(&format!("HTTP/1.1 200 {}", "a".repeat(MAX_HEAD)));
    }

    #[test]
    fn a_byte_that_was_read_is_not_read_again() {
        let rules = Rules::new("X-Request-Id", "a");
        let long = "a".repeat(500);
        let mut bytes = format!("\r\nHTTP/1.1 200 {long}\r\nX-{long}: \t {long}\r\nX-A: {long}\r\n\r\n").into_bytes();
        let mut reader = AnswerReader::new();
        for end in 1..bytes.len() {
            let read = end.saturating_sub(16); // a status and a line's end may wait for what is behind them
            bytes[..read].fill(b'\n');
            assert!(matches!(reader.read(&bytes[..end], &rules, false), Reading::More), "at {end}");
        }
        assert!(matches!(reader.read(&bytes, &rules, false), Reading::Whole(..)));
    }

    #[test]
    fn folded_lines_and_bare_line_feeds_are_refused() {
        for lines in [" X-A: 1", "X-A: 1\r\n 2", "X-A: 1\n", "X-A : 1", "garbage\r", "\n"] {
            refused(&format!("HTTP/1.1 200 OK\r\n{lines}"));
        }
    }
}
