//! A client's bytes, as the live path reads them: whole requests as a model gets them, and how it ends.

use crate::chunked::Chunked;
use crate::head::{Framing, Reading, Refusal, RequestHead, RequestReader, MAX_HEAD};

#[derive(Debug)]
pub struct Request {
    /// The head as it came, behind empty lines, and as it was read.
    pub raw: Vec<u8>,
    pub head: RequestHead,
    pub body: Vec<u8>,
}

impl Request {
    /// As the model gets it; a body in chunks in one.
    pub fn sent(&self) -> Vec<u8> {
        let mut sent = self.head.bytes.clone();
        if self.head.framing == Framing::Chunked && !self.body.is_empty() {
            sent.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
        }
        sent.extend_from_slice(&self.body);
        if self.head.framing == Framing::Chunked {
            sent.extend_from_slice(if self.body.is_empty() { b"0\r\n\r\n" } else { b"\r\n0\r\n\r\n" });
        }
        sent
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Another request may come.
    Kept,
    /// The client asked for it.
    Closed,
    /// For the rest of a request.
    Waits,
    Refused(Refusal),
}

#[derive(Debug)]
pub struct Outcome {
    pub requests: Vec<Request>,
    pub end: End,
}

enum Stage {
    Head,
    Length(u64),
    Chunks(Chunked),
}

/// What the pieces are read as, one after the other.
pub fn converse(pieces: &[&[u8]]) -> Outcome {
    let rules = crate::rules();
    let mut requests: Vec<Request> = Vec::new();
    let mut reader = RequestReader::new();
    let mut stage = Stage::Head;
    let mut waiting: Vec<u8> = Vec::new(); // of a head
    let mut building: Option<Request> = None;
    let refused = |requests, refusal| Outcome { requests, end: End::Refused(refusal) };
    for piece in pieces {
        let mut rest: &[u8] = piece;
        while !rest.is_empty() {
            let mut body = |piece: &[u8]| building.iter_mut().for_each(|request| request.body.extend_from_slice(piece));
            match &mut stage {
                Stage::Head => {
                    let before = waiting.len();
                    waiting.extend_from_slice(rest);
                    match reader.read(&waiting, &rules) {
                        Reading::More => {
                            assert!(waiting.len() <= MAX_HEAD, "a head without an end");
                            break;
                        }
                        Reading::Refused(refusal) => return refused(requests, refusal),
                        Reading::Whole(head, used) => {
                            assert!(used > before && used <= MAX_HEAD && head.bytes.len() <= MAX_HEAD);
                            rest = &rest[used - before..];
                            stage = match head.framing {
                                Framing::None | Framing::Length(0) => Stage::Length(0),
                                Framing::Length(length) => Stage::Length(length),
                                Framing::Chunked => Stage::Chunks(Chunked::new()),
                            };
                            building = Some(Request { raw: waiting[..used].to_vec(), head, body: Vec::new() });
                            waiting.clear();
                        }
                    }
                }
                Stage::Length(left) => {
                    let size = (*left).min(rest.len() as u64);
                    let (taken, behind) = rest.split_at(size as usize);
                    body(taken);
                    *left -= size;
                    rest = behind;
                }
                Stage::Chunks(chunks) => match chunks.decode(rest, &mut body) {
                    Err(()) => return refused(requests, Refusal::BadRequest),
                    Ok(progress) => {
                        assert!(progress.done || progress.used == rest.len());
                        rest = &rest[progress.used..];
                        if progress.done {
                            stage = Stage::Length(0);
                        }
                    }
                },
            }
            if let Stage::Length(0) = stage {
                stage = Stage::Head;
                requests.extend(building.take());
                if requests.last().is_some_and(|request| !request.head.keep_alive) {
                    return Outcome { requests, end: End::Closed };
                }
            }
        }
    }
    // Empty lines before a request are nothing.
    let between = matches!(stage, Stage::Head) && waiting.trim_ascii().is_empty() && !requests.is_empty();
    Outcome { requests, end: if between { End::Kept } else { End::Waits } }
}
