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
    /// Behind an equals sign.
    ExtensionValue,
    ExtensionToken,
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
            (Stage::Digits | Stage::ExtensionName | Stage::ExtensionToken | Stage::QuoteEnds, b'\r') => {
                Stage::SizeLineFeed
            }
            (Stage::Digits | Stage::ExtensionName | Stage::ExtensionToken | Stage::QuoteEnds, b';') => Stage::Extension,
            (Stage::Extension | Stage::ExtensionName, byte) if is_token(byte) => Stage::ExtensionName,
            (Stage::ExtensionName, b'=') => Stage::ExtensionValue,
            (Stage::ExtensionValue, b'"') => Stage::Quoted,
            (Stage::ExtensionValue | Stage::ExtensionToken, byte) if is_token(byte) => Stage::ExtensionToken,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What was in the chunks, how much was used, and whether it was all; the same however it is cut.
    fn decode(input: &[u8]) -> Result<(Vec<u8>, usize, bool), ()> {
        let feed = |cuts: &[usize]| {
            let (mut body, mut used, mut done) = (Vec::new(), 0, false);
            let mut chunked = Chunked::new();
            for end in cuts {
                if !done {
                    let progress = chunked.decode(&input[used..*end], &mut |piece| body.extend_from_slice(piece))?;
                    used += progress.used;
                    done = progress.done;
                }
            }
            Ok((body, used, done))
        };
        let whole = feed(&[input.len()]);
        if input.len() < 2000 {
            assert_eq!(feed(&(1..=input.len()).collect::<Vec<_>>()), whole);
            for cut in 0..input.len() {
                assert_eq!(feed(&[cut, input.len()]), whole, "cut at {cut}");
            }
        }
        whole
    }

    fn sound(input: &str, body: &str) {
        assert_eq!(decode(input.as_bytes()), Ok((body.into(), input.len(), true)), "{input:?}");
    }

    fn refused(input: &str) {
        assert_eq!(decode(input.as_bytes()), Err(()), "{input:?}");
    }

    #[test]
    fn chunks_are_joined_and_what_is_behind_the_last_is_left() {
        sound("2\r\nhe\r\n0003\r\nllo\r\n000\r\n\r\n", "hello");
        sound("A\r\nhellohello\r\n0\r\n\r\n", "hellohello");
        assert_eq!(decode(b"1\r\na\r\n0\r\n\r\nGET"), Ok((b"a".to_vec(), 11, true)));
        assert_eq!(decode(b"ffffffffffffffff\r\na"), Ok((b"a".to_vec(), 19, false)));
    }

    #[test]
    fn extensions_are_of_the_grammar_and_are_dropped() {
        for extension in [";a", ";a=b", ";a=\"b;c\\\"\u{e9}\t\"", ";a;b=c;d=\"\""] {
            sound(&format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n"), "hello");
        }
        for extension in [
            ";",
            ";;",
            ";=b",
            ";a=",
            ";a=;b",
            " ;a",
            "; a",
            ";a ",
            ";a=b=c",
            ";a=b\"c\"",
            ";a=\"b\"c",
            ";a=\"\u{0}\"",
            ";a=\u{0}",
            ";a b",
        ] {
            refused(&format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
        }
        refused("5;a=\"b\r\n");
        refused("5;a=\"b\\\u{7f}");
    }

    #[test]
    fn a_size_is_hexadecimal_and_below_two_to_the_64() {
        for size in ["", "10000000000000005", "0x5", "+5", "-5", " 5", "5 ", "5\t", "5,5", "5g", "5_0", "5\u{0}"] {
            refused(&format!("{size}\r\nhello\r\n0\r\n\r\n"));
        }
        sound("000000000000000000000005\r\nhello\r\n0\r\n\r\n", "hello");
    }

    #[test]
    fn lines_end_with_crlf_and_nothing_less() {
        for input in [
            "5\nhello\r\n",
            "5\rhello",
            "5\r\r\n",
            "5;a\n",
            "5\r\nhello\n",
            "5\r\nhellox",
            "5\r\nhello\rx",
            "4\r\nhello\r\n",
            "0\n",
            "0\r\n\n",
            "0\r\n\rx",
            "0\r\nX-T: 1\n",
            "0\r\nX-T: 1\rx",
        ] {
            refused(input);
        }
    }

    #[test]
    fn trailers_are_header_lines_and_are_dropped() {
        sound("5\r\nhello\r\n0\r\nX-T: 1\r\nConnection: close\r\nX-U:\r\n\r\n", "hello");
        for trailer in
            ["X-T : 1", " X-T: 1", "X-T: 1\r\n 2", "garbage\r", ": 1", "X-T: \u{0}", "X-T: \u{7f}", "GET / HTTP/1.1\r"]
        {
            refused(&format!("0\r\n{trailer}\r\n\r\n"));
        }
    }

    #[test]
    fn trailers_say_nothing_of_framing() {
        refused("0\r\nContent-Length:");
        refused("0\r\ntransfer-encoding:");
    }

    #[test]
    fn what_brings_nothing_is_bounded() {
        let lines = |count: usize| format!("0\r\n{}\r\n", "X-T: 1\r\n".repeat(count));
        sound(&lines(256), "");
        refused(&lines(257));
        refused(&format!("5;a={}", "a".repeat(MAX_HEAD)));
        refused(&"0".repeat(MAX_HEAD + 1));
        let many = "1\r\na\r\n".repeat(MAX_HEAD);
        sound(&format!("{many}0\r\n\r\n"), &"a".repeat(MAX_HEAD));
    }
}
