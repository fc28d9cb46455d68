//! Policy for the heads of requests and answers: what is refused, what is forwarded, what we say ourselves. A head is
//! always written anew from what was read, and its framing headers are ours, so that no reading of it can differ behind
//! us. Pure; it must not know connections, nor what is mirrored.

mod answer_head;
mod connection_header;
mod header_lines;
mod refusal;
mod request_head;
mod request_line;
pub mod rules;
pub mod scan;

pub use answer_head::{AnswerHead, AnswerReader};
pub use refusal::Refusal;
pub use request_head::{RequestHead, RequestReader};
pub use rules::{id_text, Rules, MAX_HEAD};

/// How long a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// What came of reading on.
#[derive(Debug)]
pub enum Reading<T> {
    More,
    /// A head, and how many bytes it was of.
    Whole(T, usize),
    Refused(Refusal),
}
