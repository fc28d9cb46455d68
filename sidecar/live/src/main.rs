//! The live path of the sidecar: accepts, forwards, answers, and hands on what it captured.

#[allow(dead_code)]
mod breaker;
mod poll;
#[allow(dead_code)]
mod position;
#[allow(dead_code)]
mod resolve;
#[allow(dead_code)]
mod sampler;
mod sock;

fn main() {
    println!("not there yet");
}
