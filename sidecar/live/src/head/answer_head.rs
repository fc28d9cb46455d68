//! The head of a model's answer: read as it comes, judged, and its lines written anew. It must not know who asked.

use super::connection_header::Connection;
use super::header_lines::{HeaderLines, Line, Scanned};
use super::refusal::Refusal;
use super::rules::{length, Rules, Special, MAX_HEAD};
use super::Reading;

#[derive(Debug)]
pub struct AnswerHead {
    /// Below 200: another one follows.
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
            Scanned::End(used) => Ok(Some((self.finish(first)?, used))),
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

    fn finish(&mut self, first: First) -> Result<AnswerHead, Malformed> {
        let read = &mut self.read;
        let mut lines = std::mem::take(&mut read.out);
        if read.connection.names_any() {
            let all = std::mem::take(&mut lines);
            read.connection.without_named(&all, &mut lines);
        }
        // No interim answer has a body; to 100 some say a length all the same.
        let framed = read.chunked || read.length.is_some_and(|length| length > 0);
        if first.status < 200 && first.status != 100 && framed {
            return Err(Malformed);
        }
        Ok(AnswerHead {
            status: first.status,
            lines,
            length: read.length,
            chunked: read.chunked,
            keep: read.connection.stays(first.http10),
        })
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
            5 | 7 => byte.is_ascii_digit(),
            6 => byte == b'.',
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
    let http10 = match &input[5..8] {
        b"1.1" => false,
        b"1.0" | b"0.9" => true,
        _ => return Err(Malformed),
    };
    let status = input[9..12].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if status == 101 {
        return Err(Malformed); // we never ask for another protocol
    }
    Ok(Some(First { status, http10 }))
}
