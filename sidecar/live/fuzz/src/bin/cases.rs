//! Reads messages from stdin, and says how the live path reads each, a line each; it fails where a message is read
//! otherwise when it is cut in two somewhere, or comes byte by byte.
//!
//! A message is a byte that says what it is (`q`: a client's, `a`: a model's, `h`: a model's to HEAD), four of its length
//! in little-endian, and itself. A line is how it ends, and in hexadecimal what is sent on to a model, or the answer's
//! status and body.

use modelcanary_live_fuzz::{answers, client, model, pieces, requests};
use std::io::{Error, Read, Write};

fn main() -> Result<(), Error> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    let mut out = std::io::stdout().lock();
    let mut rest = &input[..];
    while let Some((head, behind)) = rest.split_first_chunk::<5>() {
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (message, behind) = behind.split_at(length);
        rest = behind;
        writeln!(out, "{}", if head[0] == b'q' { request(message) } else { answer(message, head[0] == b'h') })?;
    }
    Ok(())
}

/// Every way of cutting it in two, and all bytes alone.
fn cuts(message: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let two = (1..message.len()).map(|place| pieces(message, vec![place]));
    two.chain([message.chunks(1).collect()])
}

fn request(message: &[u8]) -> String {
    let whole = client::converse(&[message]);
    for cut in cuts(message) {
        requests::same(&whole, &client::converse(&cut));
    }
    let end = match whole.end {
        client::End::Kept => "kept".to_owned(),
        client::End::Closed => "closed".to_owned(),
        client::End::Waits => "waits".to_owned(),
        client::End::Refused(refusal) => refusal.status().to_string(),
    };
    whole.requests.iter().fold(end, |line, request| line + " " + &hexadecimal(&request.sent()))
}

fn answer(message: &[u8], to_head: bool) -> String {
    let whole = model::answer(to_head, &[message]);
    for cut in cuts(message) {
        answers::same(&whole, &model::answer(to_head, &cut));
    }
    let end = match whole.end {
        model::End::Whole => "whole",
        model::End::Waits => "waits",
        model::End::WaitsForTheEnd => "end",
        model::End::Malformed => "malformed",
    };
    match whole.head {
        None => end.to_owned(),
        Some((_, head)) => format!("{end} {} {}", head.status, hexadecimal(&whole.body)),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
