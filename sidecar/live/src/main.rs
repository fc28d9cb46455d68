//! The live path of the sidecar: accepts, forwards, answers, and hands on what it captured.

mod poll;
mod sock;

fn main() {
    println!("not there yet");
}
