//! A model's bytes, as the live path reads them: one answer, behind those that are only interim.

use crate::chunked::Chunked;
use crate::head::{AnswerHead, AnswerReader, Reading, Refusal, MAX_HEAD};

#[derive(Debug)]
pub struct Outcome {
    /// The head as it came, behind empty lines, and as it was read; none: none came.
    pub head: Option<(Vec<u8>, AnswerHead)>,
    pub body: Vec<u8>,
    pub end: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Whole,
    /// For more, or for the connection's end where nothing else ends it.
    Waits,
    WaitsForTheEnd,
    Malformed,
}

enum Stage {
    Head,
    Length(u64),
    Chunks(Chunked),
    UntilTheEnd,
}

pub fn answer(to_head: bool, pieces: &[&[u8]]) -> Outcome {
    let rules = crate::rules();
    let mut reader = AnswerReader::new();
    let mut stage = Stage::Head;
    let mut waiting: Vec<u8> = Vec::new(); // of a head
    let (mut found, mut body) = (None, Vec::new());
    for piece in pieces {
        let mut rest: &[u8] = piece;
        while !rest.is_empty() {
            match &mut stage {
                Stage::Head => {
                    let before = waiting.len();
                    waiting.extend_from_slice(rest);
                    match reader.read(&waiting, &rules, false) {
                        Reading::More => {
                            assert!(waiting.len() <= MAX_HEAD, "a head without an end");
                            break;
                        }
                        Reading::Refused(refusal) => {
                            assert_eq!(refusal, Refusal::BadGateway);
                            return Outcome { head: None, body, end: End::Malformed };
                        }
                        Reading::Whole(head, used) => {
                            assert!(used > before && used <= MAX_HEAD);
                            rest = &rest[used - before..];
                            let raw = waiting[..used].to_vec();
                            waiting.clear();
                            if head.status < 200 {
                                continue;
                            }
                            let bodiless = to_head || matches!(head.status, 204 | 304);
                            stage = match head.length {
                                _ if bodiless => Stage::Length(0),
                                _ if head.chunked => Stage::Chunks(Chunked::new()),
                                Some(length) => Stage::Length(length),
                                None => Stage::UntilTheEnd,
                            };
                            found = Some((raw, head));
                        }
                    }
                }
                Stage::Length(left) => {
                    let size = (*left).min(rest.len() as u64);
                    let (taken, behind) = rest.split_at(size as usize);
                    body.extend_from_slice(taken);
                    *left -= size;
                    rest = behind;
                }
                Stage::Chunks(chunks) => match chunks.decode(rest, &mut |piece| body.extend_from_slice(piece)) {
                    Err(()) => return Outcome { head: found, body, end: End::Malformed },
                    Ok(progress) => {
                        assert!(progress.done || progress.used == rest.len());
                        rest = &rest[progress.used..];
                        if progress.done {
                            stage = Stage::Length(0);
                        }
                    }
                },
                Stage::UntilTheEnd => {
                    body.extend_from_slice(rest);
                    break;
                }
            }
            if let Stage::Length(0) = stage {
                return Outcome { head: found, body, end: End::Whole };
            }
        }
    }
    let end = if matches!(stage, Stage::UntilTheEnd) { End::WaitsForTheEnd } else { End::Waits };
    Outcome { head: found, body, end }
}
