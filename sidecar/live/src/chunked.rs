//! A body in chunks, however it comes: what is in them is told, all else is judged and dropped. It must not know whose
//! body it is. A chunk's extension and the trailers are never sent on (RFC 9112, 7.1).

use crate::head::rules::{special, Special, MAX_HEAD, MAX_HEADERS};
use crate::head::scan::is_token;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Stage {
    #[default]
    Size,
    Digits,
    /// Behind a semicolon.
    Extension,
    ExtensionName,
    ExtensionValue,
    Quoted,
    Escaped,
    QuoteEnds,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    LineBegins,
    Name,
    Value,
    LineLineFeed,
    LastLineFeed,
    Done,
}

#[derive(Default)]
pub struct Chunked {
    stage: Stage,
    left: u64,
    /// Bytes, and lines of trailers, in a row of which no byte of a body came.
    barren: usize,
    lines: usize,
    /// A trailer's, as far as it has come.
    name: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    pub used: usize,
    pub done: bool,
}

impl Chunked {
    pub fn new() -> Self {
        Self::default()
    }

    /// Of bytes that were not given to it before; `piece` is called with what is in the chunks.
    #[allow(clippy::result_unit_err)] // there is one thing to say
    pub fn decode(&mut self, input: &[u8], piece: &mut dyn FnMut(&[u8])) -> Result<Progress, ()> {
        let mut at = 0;
        while at < input.len() && self.stage != Stage::Done {
            if self.stage == Stage::Data {
                let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                piece(&input[at..at + size]);
                at += size;
                self.left -= size as u64;
                self.barren = 0;
                if self.left == 0 {
                    self.stage = Stage::DataReturn;
                }
                continue;
            }
            self.stage = self.step(input[at])?;
            at += 1;
            self.barren += 1;
            if self.barren > MAX_HEAD {
                return Err(());
            }
        }
        Ok(Progress { used: at, done: self.stage == Stage::Done })
    }

    fn step(&mut self, byte: u8) -> Result<Stage, ()> {
        Ok(match (self.stage, byte) {
            (Stage::Size | Stage::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                self.left = self.left.checked_mul(16).ok_or(())? | digit;
                Stage::Digits
            }
            (Stage::Digits | Stage::ExtensionName | Stage::ExtensionValue | Stage::QuoteEnds, b'\r') => {
                Stage::SizeLineFeed
            }
            (Stage::Digits | Stage::ExtensionName | Stage::ExtensionValue | Stage::QuoteEnds, b';') => Stage::Extension,
            (Stage::Extension | Stage::ExtensionName, byte) if is_token(byte) => Stage::ExtensionName,
            (Stage::ExtensionName, b'=') => Stage::ExtensionValue,
            (Stage::ExtensionValue, b'"') => Stage::Quoted,
            (Stage::ExtensionValue, byte) if is_token(byte) => Stage::ExtensionValue,
            (Stage::Quoted, b'"') => Stage::QuoteEnds,
            (Stage::Quoted, b'\\') => Stage::Escaped,
            (Stage::Quoted | Stage::Escaped, b'\t' | 0x20..=0x7e | 0x80..) => Stage::Quoted,
            (Stage::SizeLineFeed, b'\n') => {
                if self.left == 0 {
                    Stage::LineBegins
                } else {
                    Stage::Data
                }
            }
            (Stage::DataReturn, b'\r') => Stage::DataLineFeed,
            (Stage::DataLineFeed, b'\n') => Stage::Size,
            (Stage::LineBegins, b'\r') => Stage::LastLineFeed,
            (Stage::LineBegins | Stage::Name, byte) if is_token(byte) => {
                self.name.push(byte);
                Stage::Name
            }
            (Stage::Name, b':') => {
                self.lines += 1;
                // Framing is said before the body, or by nobody.
                let framing = matches!(special(&self.name), Special::Length | Special::Coding);
                self.name = Vec::new();
                if framing || self.lines > MAX_HEADERS {
                    return Err(());
                }
                Stage::Value
            }
            (Stage::Value, b'\t' | 0x20..=0x7e | 0x80..) => Stage::Value,
            (Stage::Value, b'\r') => Stage::LineLineFeed,
            (Stage::LineLineFeed, b'\n') => Stage::LineBegins,
            (Stage::LastLineFeed, b'\n') => Stage::Done,
            _ => return Err(()),
        })
    }
}
