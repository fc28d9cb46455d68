//! One captured request with its answers, and how it is laid out for the scorer, which unpacks it (`capture.py`).
//!
//! A fixed header and the bytes behind it. It must not know sockets (`channel` does), nor what the bodies mean.

use std::rc::Rc;

/// Why there is no answer, by the code on the wire; 0 there is an answer, whatever its status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Failure {
    Timeout = 1,
    Refused = 2,
    TooLarge = 3,
    Undecodable = 4,
}

/// What one model said.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LiveAnswer {
    pub failure: Option<Failure>,
    /// 0 where there was no answer.
    pub status: u16,
    /// Seconds from the request's last byte sent to the answer's last received.
    pub latency: f64,
    /// Lines `name: value\r\n`, without hop-by-hop and framing headers.
    pub headers: Vec<u8>,
    /// Transfer coding undone, content coding not.
    pub body: Vec<u8>,
}

impl LiveAnswer {
    pub fn failed(failure: Failure, latency: f64) -> Self {
        Self { failure: Some(failure), latency, ..Self::default() }
    }
}

/// One request of a user with the baseline's answer: what the scorer makes pairs of.
#[derive(Clone, PartialEq, Debug)]
pub struct Captured {
    /// The client's header, else the one minted and returned.
    pub id: String,
    /// The client sent no id in a header: an id in the body may be what labels come with.
    pub minted: bool,
    /// When the request came, seconds since the epoch.
    pub time: f64,
    /// That was followed at that time.
    pub run: Rc<str>,
    pub method: Vec<u8>,
    /// Path and query.
    pub target: Vec<u8>,
    /// Of the mirrored copy, ready to be sent but for the framing: lines `name: value\r\n`.
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
    pub baseline: LiveAnswer,
    /// None: the scorer asks, or nobody has yet.
    pub candidate: Option<LiveAnswer>,
}

impl Captured {
    /// About the bytes that it takes, here and packed.
    pub fn size(&self) -> usize {
        let answer = |answer: &LiveAnswer| answer.headers.len() + answer.body.len();
        let texts = self.id.len() + self.run.len() + self.method.len() + self.target.len();
        FIXED
            + texts
            + self.headers.len()
            + self.body.len()
            + answer(&self.baseline)
            + self.candidate.as_ref().map_or(0, |candidate| ANSWER + answer(candidate))
    }

    /// Append it as the scorer reads it, behind others or alone.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.reserve(self.size());
        out.push(u8::from(self.minted));
        out.push(u8::from(self.candidate.is_some()));
        out.extend_from_slice(&(self.id.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.run.len() as u16).to_le_bytes());
        for length in [self.method.len(), self.target.len(), self.headers.len(), self.body.len()] {
            out.extend_from_slice(&(length as u32).to_le_bytes());
        }
        out.extend_from_slice(&self.time.to_le_bytes());
        pack_answer(&self.baseline, out);
        for part in [self.id.as_bytes(), self.run.as_bytes(), &self.method, &self.target, &self.headers, &self.body] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&self.baseline.headers);
        out.extend_from_slice(&self.baseline.body);
        if let Some(candidate) = &self.candidate {
            pack_answer(candidate, out);
            out.extend_from_slice(&candidate.headers);
            out.extend_from_slice(&candidate.body);
        }
    }
}

/// Of the fixed parts, in bytes: `<??HHIIIIdHBdII` and `<HBdII` as Python's struct has it.
const FIXED: usize = 30 + ANSWER;
const ANSWER: usize = 19;

fn pack_answer(answer: &LiveAnswer, out: &mut Vec<u8>) {
    out.extend_from_slice(&answer.status.to_le_bytes());
    out.push(answer.failure.map_or(0, |failure| failure as u8));
    out.extend_from_slice(&answer.latency.to_le_bytes());
    out.extend_from_slice(&(answer.headers.len() as u32).to_le_bytes());
    out.extend_from_slice(&(answer.body.len() as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_first_and_the_bytes_behind_them() {
        let candidate =
            LiveAnswer { status: 200, latency: 0.5, headers: b"a: b\r\n".to_vec(), ..LiveAnswer::default() };
        let captured = Captured {
            id: "i".into(),
            minted: true,
            time: 1.0,
            run: "run".into(),
            method: b"POST".to_vec(),
            target: b"/x".to_vec(),
            headers: b"h: v\r\n".to_vec(),
            body: b"{}".to_vec(),
            baseline: LiveAnswer::failed(Failure::TooLarge, 0.25),
            candidate: Some(candidate),
        };
        let mut packed = vec![b'!'];
        captured.pack(&mut packed);
        let mut expected = b"!\x01\x01\x01\0\x03\0\x04\0\0\0\x02\0\0\0\x06\0\0\0\x02\0\0\0".to_vec();
        expected.extend(1.0_f64.to_le_bytes());
        expected.extend(b"\0\0\x03");
        expected.extend(0.25_f64.to_le_bytes());
        expected.extend(b"\0\0\0\0\0\0\0\0irunPOST/xh: v\r\n{}\xc8\0\0");
        expected.extend(0.5_f64.to_le_bytes());
        expected.extend(b"\x06\0\0\0\0\0\0\0a: b\r\n");
        assert_eq!(packed, expected);
        assert_eq!(captured.size(), packed.len() - 1);
    }
}
