//! What the live process is started with: one JSON argument, written by `modelcanary_sidecar.live`, which has checked it.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Settings {
    /// Descriptors that were inherited.
    pub listener: i32,
    pub scorer: i32,
    pub room: i32,
    pub board: i32,
    /// The process that started this one, and watches it.
    pub parent: i32,
    pub worker: usize,
    pub workers: usize,
    /// As a Host header has it.
    pub upstream: String,
    pub host: String,
    pub port: u16,
    pub limits: Limits,
}

/// How many, how much, how long: seconds and bytes. `settings.py` says what each is.
#[derive(Debug, Deserialize)]
pub struct Limits {
    pub clients: usize,
    pub connections: usize,
    pub waiting: usize,
    pub waiting_time: f64,
    pub connect_time: f64,
    pub answer_time: f64,
    pub upstream_idle: f64,
    pub client_idle: f64,
    pub head_time: f64,
    pub drain_delay: f64,
    pub drain_time: f64,
}

impl Settings {
    pub fn read(argument: &str) -> Result<Self, String> {
        serde_json::from_str(argument).map_err(|error| error.to_string())
    }
}
