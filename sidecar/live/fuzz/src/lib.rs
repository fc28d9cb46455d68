//! What is fuzzed of the live path: how it reads what clients and models send. Bytes in, nothing out, a panic where it
//! does what it must not. The modules under test are compiled in here, because a fuzzer instruments what it watches.

#[path = "../../src/chunked.rs"]
pub mod chunked;
#[path = "../../src/head/mod.rs"]
pub mod head;

pub mod answers;
pub mod client;
pub mod model;
pub mod requests;

use head::Rules;

/// As a sidecar has them that was told nothing else.
pub fn rules() -> Rules {
    Rules::new("X-Request-Id", "127.0.0.1:8080")
}

/// An input's message, and the same in up to four pieces: its first byte says how many, the next where.
pub fn cut(data: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let count = data.first().map_or(0, |first| usize::from(first % 4));
    let places = data.get(1..).unwrap_or_default();
    let (places, message) = places.split_at(count.min(places.len()));
    let places: Vec<usize> = places.iter().map(|&place| usize::from(place) * message.len() / 255).collect();
    (message, pieces(message, places))
}

pub fn pieces(message: &[u8], mut places: Vec<usize>) -> Vec<&[u8]> {
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in places.into_iter().chain([message.len()]) {
        if end > start {
            pieces.push(&message[start..end]);
            start = end;
        }
    }
    pieces
}
