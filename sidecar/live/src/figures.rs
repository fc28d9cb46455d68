//! What the live path counts: plain numbers. The board shows them to the process that exports them, by the order of
//! `cells`, which is `figures.CELLS` of the Python side. It must not know how they are exported.

use crate::breaker::BreakerState;

/// Upper bounds of the histogram's buckets, in seconds; what is beyond them has one of its own.
pub const ADDED_BOUNDS: [f64; 13] = [25e-6, 50e-6, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.1, 0.5, 1.0];

macro_rules! counted {
    ($(#[$about:meta])* $name:ident, { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            pub fn text(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

counted! {
    /// Why a request that was to be mirrored was not.
    Drop, {
        /// Beyond maxPairsPerSecond.
        Rate = "rate",
        /// The scorer, or the candidate, has no room.
        Shed = "shed",
        /// No room on the way to the scorer.
        Queue = "queue",
        /// Request or answer beyond maxBodyBytes.
        TooLarge = "tooLarge",
        /// Too many bytes of requests under way and their answers are kept for pairs.
        Held = "held",
        ClientLeft = "clientLeft",
        /// Failed before the model had the whole request.
        NotSent = "notSent",
        /// The scorer says nothing: it is starved, or it died.
        Silence = "silence",
        /// Too many wait for the candidate.
        CandidateQueue = "candidateQueue",
        /// What waits for it is too large.
        CandidateBytes = "candidateBytes",
        /// No connection to it was accepted yet.
        CandidateUnreached = "candidateUnreached",
        /// The candidate failed several times in a row.
        Breaker = "breaker",
        /// Asked, for a run that is over.
        Stopped = "stopped",
        NoCandidate = "noCandidate",
        /// Of ours, and logged.
        Fault = "fault",
        /// The client's id is longer than 256 bytes, or no text.
        Id = "id",
    }
}

counted! {
    /// Whose answer a user under a canary weight got; where it was not the candidate's, why.
    Given, {
        Candidate = "candidate",
        /// A status other than 2xx.
        Error = "error",
        Malformed = "malformed",
        /// By more than the grace.
        Late = "late",
        /// No connection, or it broke.
        Refused = "refused",
        /// Of mirror.timeout.
        Timeout = "timeout",
        /// Either's answer, or the request.
        TooLarge = "tooLarge",
        /// The baseline had answered before the request was whole.
        Unasked = "unasked",
        /// The candidate failed too often in a row.
        Skipped = "skipped",
    }
}

/// The statuses of answers of our own.
pub const REFUSED: [u16; 8] = [400, 408, 431, 501, 502, 503, 504, 505];

/// Of the candidate that is asked for mirrored copies.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AskingFigures {
    pub breaker: BreakerState,
    pub queue: usize,
    pub held_bytes: usize,
    pub in_flight: usize,
    pub connections: usize,
}

/// Counters since the start, and gauges as of the last sweep.
#[derive(Default)]
pub struct Figures {
    pub stage: u64,
    pub clients: usize,
    pub sides: usize,
    pub busy: bool,
    pub arrived: f64,
    pub added: [u64; ADDED_BOUNDS.len() + 1],
    pub added_sum: f64,
    pub duration: f64,
    pub captured: u64,
    pub dropped: [u64; Drop::ALL.len()],
    pub refused: [u64; REFUSED.len()],
    pub canary: [u64; Given::ALL.len()],
    pub retries: u64,
    pub broken_off: u64,
    pub passed_through: u64,
    pub connections: usize,
    pub in_flight: usize,
    pub waiting: usize,
    pub loop_lag: f64,
    pub silence: f64,
    pub share: f64,
    pub weight: f64,
    pub asking: Option<AskingFigures>,
}

impl Figures {
    /// A request, answered by a model: what we added to it, and how long it took as a whole.
    pub fn answered(&mut self, added: f64, duration: f64) {
        let bucket = ADDED_BOUNDS.iter().position(|bound| added <= *bound).unwrap_or(ADDED_BOUNDS.len());
        self.added[bucket] += 1;
        self.added_sum += added;
        self.duration += duration;
    }

    pub fn drop(&mut self, reason: Drop, count: u64) {
        self.dropped[reason as usize] += count;
    }

    pub fn refuse(&mut self, status: u16) {
        if let Some(place) = REFUSED.iter().position(|one| *one == status) {
            self.refused[place] += 1;
        }
    }

    pub fn count_canary(&mut self, given: Given) {
        self.canary[given as usize] += 1;
    }

    /// Names and values, in the board's order.
    pub fn cells(&self, mut cell: impl FnMut(&str, &str, f64)) {
        cell("stage", "", self.stage as f64);
        cell("clients", "", self.clients as f64);
        cell("sides", "", self.sides as f64);
        cell("busy", "", f64::from(self.busy));
        cell("arrived", "", self.arrived);
        for (number, count) in self.added.iter().enumerate() {
            cell("added", NUMBERS[number], *count as f64);
        }
        cell("added_sum", "", self.added_sum);
        cell("duration", "", self.duration);
        cell("captured", "", self.captured as f64);
        for reason in Drop::ALL {
            cell("dropped", reason.text(), self.dropped[*reason as usize] as f64);
        }
        for (place, status) in ["400", "408", "431", "501", "502", "503", "504", "505"].iter().enumerate() {
            cell("refused", status, self.refused[place] as f64);
        }
        for given in Given::ALL {
            cell("canary", given.text(), self.canary[*given as usize] as f64);
        }
        cell("retries", "", self.retries as f64);
        cell("broken_off", "", self.broken_off as f64);
        cell("passed_through", "", self.passed_through as f64);
        cell("connections", "", self.connections as f64);
        cell("in_flight", "", self.in_flight as f64);
        cell("waiting", "", self.waiting as f64);
        cell("loop_lag", "", self.loop_lag);
        cell("silence", "", self.silence);
        cell("share", "", self.share);
        cell("weight", "", self.weight);
        cell("asks", "", f64::from(self.asking.is_some()));
        let asking = self.asking.unwrap_or(AskingFigures {
            breaker: BreakerState::Closed,
            queue: 0,
            held_bytes: 0,
            in_flight: 0,
            connections: 0,
        });
        cell("breaker", "", asking.breaker as usize as f64);
        cell("queue", "", asking.queue as f64);
        cell("held_bytes", "", asking.held_bytes as f64);
        cell("asking_in_flight", "", asking.in_flight as f64);
        cell("asking_connections", "", asking.connections as f64);
    }
}

const NUMBERS: [&str; ADDED_BOUNDS.len() + 1] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13"];
