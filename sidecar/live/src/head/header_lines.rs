//! The header lines of a head, however they come: every byte is looked at once, and a wrong one is told at once. It must
//! not know what a line means, nor whether a client or a model says it.

use super::rules::MAX_HEADERS;
use super::scan::{past_blank, token_end, value_end};

/// Where it stopped, in input that begins where it began and only grows.
#[derive(Clone, Copy)]
enum Stage {
    Name,
    Blank,
    Value,
    /// Behind the CR of a line.
    LineFeed,
    /// Behind the CR of the empty line.
    End,
}

pub struct HeaderLines {
    stage: Stage,
    at: usize,
    start: usize,
    colon: usize,
    value: usize,
    count: usize,
}

/// A line as it was sent, with its CRLF.
pub struct Line<'a> {
    pub whole: &'a [u8],
    pub name: &'a [u8],
    /// Without the blanks before it, but with those behind it.
    pub value: &'a [u8],
    /// Where the value is in the input.
    pub value_at: usize,
}

impl Line<'_> {
    /// Written anew: a colon and a space, whatever there was.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.whole[self.name.len() + 1] == b' ' && self.whole.len() == self.name.len() + self.value.len() + 4 {
            out.extend_from_slice(self.whole);
        } else {
            write(self.name, self.value, out);
        }
    }
}

pub fn write(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub enum Scanned<E> {
    More,
    /// The head ends before this place.
    End(usize),
    /// A byte that cannot be there.
    Wrong,
    /// More lines than anybody needs.
    TooMany,
    Told(E),
}

impl HeaderLines {
    /// From the first byte behind the first line.
    pub fn new(at: usize) -> Self {
        Self { stage: Stage::Name, at, start: at, colon: at, value: at, count: 0 }
    }

    /// Tell of each line that is whole.
    pub fn scan<E>(&mut self, input: &[u8], mut tell: impl FnMut(Line) -> Result<(), E>) -> Scanned<E> {
        loop {
            match self.stage {
                Stage::Name => {
                    self.at = token_end(input, self.at);
                    match input.get(self.at) {
                        None => return Scanned::More,
                        Some(b':') if self.at > self.start => {
                            self.colon = self.at;
                            self.stage = Stage::Blank;
                        }
                        Some(b'\r') if self.at == self.start => self.stage = Stage::End,
                        Some(_) => return Scanned::Wrong, // a fold too: RFC 9112, 5.2 allows to refuse it
                    }
                    self.at += 1;
                }
                Stage::Blank => {
                    self.at = past_blank(input, self.at);
                    if self.at == input.len() {
                        return Scanned::More;
                    }
                    self.value = self.at;
                    self.stage = Stage::Value;
                }
                Stage::Value => {
                    self.at = value_end(input, self.at);
                    match input.get(self.at) {
                        None => return Scanned::More,
                        Some(b'\r') => self.stage = Stage::LineFeed,
                        Some(_) => return Scanned::Wrong,
                    }
                    self.at += 1;
                }
                Stage::LineFeed => {
                    match input.get(self.at) {
                        None => return Scanned::More,
                        Some(b'\n') => self.at += 1,
                        Some(_) => return Scanned::Wrong,
                    }
                    self.count += 1;
                    if self.count > MAX_HEADERS {
                        return Scanned::TooMany;
                    }
                    let line = Line {
                        whole: &input[self.start..self.at],
                        name: &input[self.start..self.colon],
                        value: &input[self.value..self.at - 2],
                        value_at: self.value,
                    };
                    self.start = self.at;
                    self.stage = Stage::Name;
                    if let Err(told) = tell(line) {
                        return Scanned::Told(told);
                    }
                }
                Stage::End => {
                    return match input.get(self.at) {
                        None => Scanned::More,
                        Some(b'\n') => Scanned::End(self.at + 1),
                        Some(_) => Scanned::Wrong,
                    }
                }
            }
        }
    }
}
