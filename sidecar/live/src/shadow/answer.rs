//! One answer of a candidate, read as it comes. The candidate is untrusted: whatever it sends ends as an answer or as a
//! failure, in bounded memory. Pure; it must not know sockets, nor what was asked.

use crate::capture::Failure;
use crate::chunked::Chunked;
use crate::head::{AnswerHead, AnswerReader, Reading, Rules};

/// Bytes of an answer that are not body: its head, those of interim ones before it, trailers.
const HEAD_CAP: usize = 64 << 10;

pub enum Came {
    More,
    Whole(Whole),
    Failed(Failure),
}

pub struct Whole {
    pub status: u16,
    /// Lines `name: value\r\n`, without those of the connection.
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
    /// Nothing stands in the way of another request on the connection.
    pub reusable: bool,
}

enum Rest {
    Head,
    /// So many more bytes.
    Length(usize),
    Chunked(Chunked),
    /// All until the connection ends.
    End,
}

pub struct ShadowAnswer {
    reader: AnswerReader,
    /// Of a head: what came of it before.
    before: Vec<u8>,
    head: Option<AnswerHead>,
    body: Vec<u8>,
    rest: Rest,
    /// Bytes that were not body.
    other: usize,
    received: bool,
}

impl ShadowAnswer {
    pub fn new() -> Self {
        Self {
            reader: AnswerReader::new(),
            before: Vec::new(),
            head: None,
            body: Vec::new(),
            rest: Rest::Head,
            other: 0,
            received: false,
        }
    }

    /// A byte of it has come.
    pub fn received(&self) -> bool {
        self.received
    }

    /// Of what the candidate sent, so much more.
    pub fn read(&mut self, data: &[u8], rules: &Rules, body_cap: usize) -> Came {
        self.received = true;
        if !matches!(self.rest, Rest::Head) {
            return self.read_body(data, body_cap);
        }
        if self.before.is_empty() {
            return self.read_head(data, rules, body_cap).unwrap_or_else(|used| {
                self.before = data[used..].to_vec();
                Came::More
            });
        }
        let mut input = std::mem::take(&mut self.before);
        input.extend_from_slice(data);
        self.read_head(&input, rules, body_cap).unwrap_or_else(|used| {
            input.drain(..used);
            self.before = input;
            Came::More
        })
    }

    /// The connection has ended, without a fault: if that ends the answer, here it is.
    pub fn end(&mut self) -> Option<Whole> {
        matches!(self.rest, Rest::End).then(|| self.whole(false))
    }

    /// Err: more is needed, behind what was used.
    fn read_head(&mut self, input: &[u8], rules: &Rules, body_cap: usize) -> Result<Came, usize> {
        let mut at = 0;
        loop {
            let room = HEAD_CAP - self.other;
            let rest = &input[at..];
            match self.reader.read(&rest[..rest.len().min(room)], rules, false) {
                Reading::More if rest.len() > room => return Ok(Came::Failed(Failure::TooLarge)),
                Reading::More => return Err(at),
                Reading::Refused(_) => return Ok(Came::Failed(Failure::Undecodable)),
                Reading::Whole(head, used) => {
                    self.other += used;
                    at += used;
                    if head.status < 200 {
                        continue; // 103 and its like: the answer comes behind it
                    }
                    let length = if matches!(head.status, 204 | 304) { Some(0) } else { head.length };
                    self.rest = match length.map(usize::try_from) {
                        Some(Ok(length)) if length <= body_cap => Rest::Length(length),
                        Some(_) => return Ok(Came::Failed(Failure::TooLarge)),
                        None if head.chunked => Rest::Chunked(Chunked::new()),
                        None => Rest::End,
                    };
                    self.head = Some(head);
                    return Ok(self.read_body(&input[at..], body_cap));
                }
            }
        }
    }

    fn read_body(&mut self, data: &[u8], body_cap: usize) -> Came {
        let body = &mut self.body;
        match &mut self.rest {
            Rest::Head => Came::More,
            Rest::Length(left) => {
                if body.is_empty() {
                    body.reserve_exact(*left);
                }
                let taken = data.len().min(*left);
                body.extend_from_slice(&data[..taken]);
                *left -= taken;
                if *left > 0 {
                    return Came::More;
                }
                Came::Whole(self.whole(taken == data.len()))
            }
            Rest::Chunked(chunked) => {
                let before = body.len();
                let mut over = false;
                let decoded = chunked.decode(data, &mut |piece| {
                    over = over || piece.len() > body_cap - body.len();
                    if !over {
                        body.extend_from_slice(piece);
                    }
                });
                if body.len() == before && !over {
                    self.other += data.len(); // sizes and trailers that never end
                }
                match decoded {
                    _ if over || self.other > HEAD_CAP => Came::Failed(Failure::TooLarge),
                    Err(()) => Came::Failed(Failure::Undecodable),
                    Ok(progress) if progress.done => Came::Whole(self.whole(progress.used == data.len())),
                    Ok(_) => Came::More,
                }
            }
            Rest::End => {
                if data.len() > body_cap - body.len() {
                    return Came::Failed(Failure::TooLarge);
                }
                body.extend_from_slice(data);
                Came::More
            }
        }
    }

    /// What it came to; the next one begins. `alone`: nothing was behind it.
    fn whole(&mut self, alone: bool) -> Whole {
        let ended = std::mem::replace(self, Self::new());
        let (status, mut headers, keep) = match ended.head {
            Some(head) => {
                let framed = head.chunked || head.length.is_some();
                (head.status, head.lines, head.keep && framed)
            }
            None => (0, Vec::new(), false),
        };
        headers.shrink_to_fit(); // it waits for the scorer, and may have had room for a body
        Whole { status, headers, body: ended.body, reusable: alone && keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: usize = 100_000;
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\n{}";

    const CHUNKED: &[u8] = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// In pieces of a size each.
    fn read(answer: &mut ShadowAnswer, bytes: &[u8], size: usize) -> Came {
        let rules = Rules::new("X-Request-Id", "");
        let mut came = Came::More;
        for piece in bytes.chunks(size) {
            came = answer.read(piece, &rules, CAP);
            if !matches!(came, Came::More) {
                break;
            }
        }
        came
    }

    fn whole(bytes: &[u8], size: usize) -> Whole {
        match read(&mut ShadowAnswer::new(), bytes, size) {
            Came::Whole(whole) => whole,
            Came::More => panic!("it is not whole: {}", bytes.escape_ascii()),
            Came::Failed(failure) => panic!("{failure:?}: {}", bytes.escape_ascii()),
        }
    }

    fn failure(bytes: &[u8], size: usize) -> Option<Failure> {
        match read(&mut ShadowAnswer::new(), bytes, size) {
            Came::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    #[test]
    fn answers_come_whole_however_they_come() {
        let interim = [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n", OK].concat();
        let chunked = |rest: &str| [CHUNKED, rest.as_bytes()].concat();
        let two_chunks = chunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        let trailer = chunked("2\r\nab\r\n0\r\nX-T: 1\r\n\r\n");
        for (bytes, status, headers, body, reusable) in [
            (OK, 200, &b"X-A: b\r\n"[..], &b"{}"[..], true),
            (&interim, 200, b"X-A: b\r\n", b"{}", true),
            (&two_chunks, 500, b"", b"abcde", true),
            (&trailer, 500, b"", b"ab", true),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", b"", false),
            (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n", 304, b"", b"", true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", b"", true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", 200, b"", b"{}", false),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"", b"{}", false),
        ] {
            for size in [1, 7, bytes.len()] {
                let found = whole(bytes, size);
                assert_eq!((found.status, found.reusable), (status, reusable), "{}", bytes.escape_ascii());
                assert_eq!((&*found.headers, &*found.body), (headers, body), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_behind_an_answer_ends_the_connection_and_changes_nothing() {
        for extra in [OK, b"garbage"] {
            let found = whole(&[OK, extra].concat(), 1000);
            assert_eq!((found.reusable, &*found.body), (false, &b"{}"[..]));
        }
    }

    #[test]
    fn the_next_answer_begins_anew() {
        let mut answer = ShadowAnswer::new();
        for _ in 0..3 {
            assert!(!answer.received());
            assert!(matches!(read(&mut answer, OK, 5), Came::Whole(_)));
        }
    }

    #[test]
    fn an_answer_may_end_with_its_connection() {
        let mut answer = ShadowAnswer::new();
        assert!(matches!(read(&mut answer, b"HTTP/1.1 200 OK\r\n\r\nall of it", 4), Came::More));
        let found = answer.end().expect("an answer");
        assert_eq!((&*found.body, found.reusable), (&b"all of it"[..], false));
        assert!(matches!(read(&mut answer, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", 4), Came::More));
        assert!(answer.end().is_none());
    }

    #[test]
    fn what_is_not_http_is_undecodable() {
        for bytes in [
            &b"\x16\x03\x01 this is TLS or nothing"[..],
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ] {
            assert_eq!(failure(bytes, 1), Some(Failure::Undecodable), "{}", bytes.escape_ascii());
            assert_eq!(failure(bytes, 1000), Some(Failure::Undecodable), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn an_endless_answer_is_ended_at_the_cap() {
        let many = |start: &[u8], more: &[u8]| [start, &more.repeat(1 + 300_000 / more.len())].concat();
        for (start, more) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"[..], &b"x"[..]),
            (CHUNKED, b"10\r\nxxxxxxxxxxxxxxxx\r\n"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: ", b"x"),
            (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
            (b"HTTP/1.1 200 OK\r\nX-A: ", b"x"),
            (b"HTTP/1.1 200 ", b"x"),
            (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        ] {
            for size in [1000, 1 << 16] {
                assert_eq!(failure(&many(start, more), size), Some(Failure::TooLarge), "{}", start.escape_ascii());
            }
        }
    }

    #[test]
    fn a_body_of_small_chunks_is_no_endless_one() {
        let chunks = b"1\r\nx\r\n".repeat(50_000);
        let bytes = [CHUNKED, &*chunks, b"0\r\n\r\n"].concat();
        assert_eq!(whole(&bytes, 1000).body.len(), 50_000);
    }
}
