//! The live path of the sidecar: accepts, forwards, answers, and hands on what it captured.
//!
//! `modelcanary_sidecar.live` starts it, with one argument of JSON and the descriptors that it names.

mod answers;
mod attempt;
mod board;
mod breaker;
mod canary;
mod capture;
mod channel;
mod chunked;
mod client;
mod exchange;
mod figures;
mod h2_frames;
mod head;
mod live;
mod log;
mod mirroring;
mod model;
mod orders;
mod poll;
mod pool;
mod position;
mod resolve;
mod room;
mod sampler;
mod settings;
mod shadow;
mod sock;
mod splice;
mod status;

use std::process::ExitCode;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == "--cells" {
        figures::Figures::default().cells(|name, of, _| {
            println!("{name}{}{of}", if of.is_empty() { "" } else { "." });
        });
        return ExitCode::SUCCESS;
    }
    let settings = match settings::Settings::read(&argument) {
        Ok(settings) => settings,
        Err(why) => {
            log::say(&format!("it is for modelcanary-sidecar to start this, which passes what is missing here: {why}"));
            return ExitCode::from(3);
        }
    };
    allow_many_connections();
    keep_freed_memory();
    match live::Live::new(settings) {
        Ok(mut live) => {
            live.run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::say(&format!("the live process cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// As many open files as the system lets us have.
fn allow_many_connections() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it outlives both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// A body that is larger than the C library gives out again would be asked of the system, cleared and given back for each
/// request: as much as it takes to forward it.
fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers are passed; it is called before there is another thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 8 << 20);
    }
}
