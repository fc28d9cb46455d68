//! What the live process is told by the scorer: the instructions that hold now, and how long what they grant holds.
//!
//! The names are those on the wire (`modelcanary_gate.protocol`). It must not know where instructions come from.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mirror {
    /// Seconds for the candidate's answer.
    pub timeout: f64,
    pub max_in_flight: usize,
    pub max_body_bytes: usize,
    pub max_pairs_per_second: f64,
    pub forward_credentials: bool,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            timeout: 2.0,
            max_in_flight: 64,
            max_body_bytes: 1 << 20,
            max_pairs_per_second: 200.0,
            forward_credentials: false,
        }
    }
}

#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Model {
    pub protocol: String,
    /// Those that are mirrored; empty: every one.
    pub paths: Vec<String>,
    #[serde(deserialize_with = "is_there")]
    pub request_patch: bool,
}

/// What a patch says is the scorer's business: here it counts whether there is one.
fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Instructions {
    /// Empty: nothing is mirrored.
    pub run: String,
    /// Base URL, http only.
    pub candidate: Option<String>,
    /// Of the requests, by the hash of their id.
    pub share: f64,
    /// Of the users that the candidate answers.
    pub weight: f64,
    /// Seconds for which a weight holds without news.
    pub lease: f64,
    /// Seconds that the candidate may be later than the baseline, with a weight.
    pub grace: f64,
    pub id_header: String,
    pub model: Model,
    pub mirror: Mirror,
}

impl Default for Instructions {
    fn default() -> Self {
        Self {
            run: String::new(),
            candidate: None,
            share: 0.0,
            weight: 0.0,
            lease: 15.0,
            grace: 0.05,
            id_header: "X-Request-Id".into(),
            model: Model::default(),
            mirror: Mirror::default(),
        }
    }
}

/// On every change, and each second.
#[derive(Debug, Deserialize)]
pub struct News {
    pub instructions: Instructions,
    /// CLOCK_MONOTONIC, seconds, of the ledger's answer that renewed the lease.
    pub heard: f64,
    /// The scorer has no room: do not capture.
    #[serde(default)]
    pub shedding: bool,
}

impl News {
    /// Err: what cannot be read, and why.
    pub fn read(message: &[u8]) -> Result<Self, String> {
        rmp_serde::from_slice(message).map_err(|error| error.to_string())
    }
}

/// Requests that were to be mirrored for a run and were not, by reason.
#[derive(Serialize)]
pub struct Dropped<'a> {
    pub run: &'a str,
    pub counts: BTreeMap<&'static str, u64>,
}

/// The last instructions heard. A share is no risk to users and holds until it is changed. A weight puts the
/// candidate's answers before users: it is a lease, and without news it ends by itself, wherever we were cut off.
pub struct Standing {
    pub instructions: Instructions,
    heard: f64,
}

impl Default for Standing {
    fn default() -> Self {
        Self { instructions: Instructions::default(), heard: f64::NEG_INFINITY }
    }
}

impl Standing {
    /// True if it differs from what held before. An answer that was overtaken by a later one is left aside. Versions are
    /// not compared: a ledger that lost its state, and was told again, counts from one.
    pub fn hear(&mut self, instructions: Instructions, answered: f64) -> bool {
        if self.overtakes(answered) {
            return false;
        }
        self.heard = answered;
        if instructions == self.instructions {
            return false;
        }
        self.instructions = instructions;
        true
    }

    /// What was answered then is older than what holds.
    pub fn overtakes(&self, answered: f64) -> bool {
        answered < self.heard
    }

    fn mirrors(&self) -> bool {
        !self.instructions.run.is_empty() && self.instructions.candidate.as_ref().is_some_and(|url| !url.is_empty())
    }

    /// Of the requests, to be mirrored; 0 without a run or a candidate.
    pub fn share(&self) -> f64 {
        if self.mirrors() {
            self.instructions.share
        } else {
            0.0
        }
    }

    /// Of the users, to be answered by the candidate; 0 once the lease has run out.
    pub fn weight(&self, now: f64) -> f64 {
        if now < self.lease_ends() && self.mirrors() {
            self.instructions.weight
        } else {
            0.0
        }
    }

    pub fn lease_ends(&self) -> f64 {
        self.heard + self.instructions.lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed(weight: f64) -> Instructions {
        Instructions {
            run: "r".into(),
            candidate: Some("http://c".into()),
            share: 0.5,
            weight,
            ..Instructions::default()
        }
    }

    #[test]
    fn a_weight_is_a_lease_and_a_share_is_none() {
        let mut standing = Standing::default();
        assert!(standing.hear(weighed(0.2), 10.0));
        assert_eq!(standing.weight(24.9), 0.2);
        assert_eq!(standing.weight(25.0), 0.0);
        assert_eq!(standing.share(), 0.5);
    }

    #[test]
    fn what_was_overtaken_is_left_aside() {
        let mut standing = Standing::default();
        assert!(standing.hear(weighed(0.2), 10.0));
        assert!(!standing.hear(weighed(0.9), 9.0));
        assert_eq!(standing.weight(11.0), 0.2);
    }

    #[test]
    fn without_a_run_or_a_candidate_nothing_is_mirrored() {
        let mut standing = Standing::default();
        standing.hear(Instructions { run: String::new(), ..weighed(1.0) }, 1.0);
        assert_eq!((standing.share(), standing.weight(2.0)), (0.0, 0.0));
        standing.hear(Instructions { candidate: None, ..weighed(1.0) }, 1.0);
        assert_eq!((standing.share(), standing.weight(2.0)), (0.0, 0.0));
    }
}
