//! Where one HTTP/2 frame ends and another may begin, in what a server sends: for the one frame that is ours to add.
//!
//! `splice` asks it about connections that are passed through. Pure. It must not know what the frames mean (RFC 9113,
//! 4.1).

/// To a client, NO_ERROR and the highest stream there can be: begin nothing new here, what is under way goes on (6.8).
pub const GOAWAY: &[u8] = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00";

const HEAD: usize = 9; // length in 24 bits, type, flags, stream in 32
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Of one connection, from the server's first byte.
#[derive(Default)]
pub struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    have: usize,
    /// Bytes to come of the present frame.
    left: usize,
    /// Headers that go on in the next frame: none may come between (6.10).
    in_block: bool,
    /// The server's SETTINGS, which have to be first (3.4).
    seen: bool,
    /// This is no HTTP/2.
    opaque: bool,
    /// Something was said on a stream.
    pub answered: bool,
}

impl Frames {
    /// A frame may come now.
    pub fn between(&self) -> bool {
        self.seen && !self.opaque && !self.in_block && self.left == 0 && self.have == 0
    }

    /// The last place in `data`, which goes on its way, where a frame may come.
    pub fn passed(&mut self, data: &[u8]) -> Option<usize> {
        let (mut last, mut at) = (None, 0);
        while at < data.len() && !self.opaque {
            if self.left > 0 {
                let step = self.left.min(data.len() - at);
                self.left -= step;
                at += step;
            } else {
                let step = (HEAD - self.have).min(data.len() - at);
                self.head[self.have..self.have + step].copy_from_slice(&data[at..at + step]);
                self.have += step;
                at += step;
                if self.have == HEAD {
                    self.have = 0;
                    self.begin();
                }
            }
            if self.between() {
                last = Some(at);
            }
        }
        last
    }

    fn begin(&mut self) {
        let [high, middle, low, kind, flags, stream @ ..] = self.head;
        let on_stream = stream != [0; 4];
        if !self.seen && (kind != SETTINGS || on_stream || flags & ACK != 0) {
            self.opaque = true;
            return;
        }
        self.seen = true;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.answered |= on_stream;
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.in_block = flags & END_HEADERS == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn frame(kind: u8, payload: &[u8], flags: u8, stream: u32) -> Vec<u8> {
        let mut made = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        made.extend_from_slice(&[kind, flags]);
        made.extend_from_slice(&stream.to_be_bytes());
        made.extend_from_slice(payload);
        made
    }

    fn settings() -> Vec<u8> {
        frame(SETTINGS, &[0; 6], 0, 0)
    }

    /// Frames after which another may come, and whether it may.
    fn talk() -> Vec<(Vec<u8>, bool)> {
        vec![
            (settings(), true),
            (frame(SETTINGS, b"", ACK, 0), true),
            (frame(HEADERS, b"abc", END_HEADERS, 1), true),
            (frame(0, &[0; 70_000], 0, 1), true),
            (frame(HEADERS, b"abc", 0, 1), false),
            (frame(CONTINUATION, b"de", 0, 1), false),
            (frame(CONTINUATION, b"f", END_HEADERS, 1), true),
            (frame(0, b"", 1, 1), true),
        ]
    }

    #[test]
    fn the_frame_that_is_added_is_one_of_its_own() {
        assert_eq!(frame(7, b"\x7f\xff\xff\xff\0\0\0\0", 0, 0), GOAWAY);
    }

    #[test]
    fn a_frame_may_come_after_each_but_those_whose_headers_go_on() {
        let mut frames = Frames::default();
        assert!(!frames.between(), "the server's settings are first");
        for (piece, may) in talk() {
            let place = frames.passed(&piece);
            assert_eq!(place == Some(piece.len()) && frames.between(), may);
        }
    }

    #[test]
    fn places_are_the_same_however_the_bytes_come() {
        let whole: Vec<u8> = talk().into_iter().flat_map(|(piece, _)| piece).collect();
        let mut ends = BTreeSet::new();
        let mut end = 0;
        for (piece, may) in talk() {
            end += piece.len();
            if may {
                ends.insert(end);
            }
        }
        for by in [1, 2, 5, 8, 9, 10, 13, 4096, whole.len()] {
            let (mut frames, mut found) = (Frames::default(), BTreeSet::new());
            for (number, piece) in whole.chunks(by).enumerate() {
                found.extend(frames.passed(piece).map(|place| number * by + place));
            }
            assert!(found.is_subset(&ends) && found.contains(&whole.len()), "by {by}: {found:?}");
            assert!(by > 1 || found == ends, "by {by}: {found:?}");
        }
    }

    #[test]
    fn nothing_is_added_to_what_is_no_http2() {
        let mut http1 = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
        http1.extend_from_slice(&[0; 100_000]);
        let acknowledged = [frame(SETTINGS, b"", ACK, 0), frame(0, &[0; 70_000], 0, 1)].concat();
        let headers = frame(HEADERS, b"abc", END_HEADERS, 1);
        for talk in [http1, acknowledged, headers, frame(SETTINGS, b"", 0, 1)] {
            let mut frames = Frames::default();
            assert_eq!(frames.passed(&talk), None);
            assert_eq!(frames.passed(&settings()), None);
            assert!(!frames.between());
        }
    }

    #[test]
    fn an_answer_is_one_on_a_stream() {
        let mut frames = Frames::default();
        frames.passed(&[settings(), frame(SETTINGS, b"", ACK, 0)].concat());
        assert!(!frames.answered);
        frames.passed(&frame(HEADERS, b"abc", END_HEADERS, 1));
        assert!(frames.answered);
    }
}
