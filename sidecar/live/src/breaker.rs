//! A circuit breaker: how often a candidate that fails is asked again.
//!
//! `shadow` asks one before each mirrored request and tells it each outcome, and so does the live path, with another
//! one, for users under a canary weight. Pure: it takes `now`, and knows neither connections nor what a failure was.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerState {
    Closed = 0,
    Open = 1,
    HalfOpen = 2,
}

/// Opens after `threshold` failures in a row, for a pause that doubles up to `longest` seconds.
///
/// After the pause it is half-open: a few requests pass, whose first outcome closes it or opens it again.
pub struct Breaker {
    threshold: u32,
    first: f64,
    longest: f64,
    probes: u32,
    state: BreakerState,
    failures: u32,
    pause: f64,
    until: f64,
    probes_left: u32,
}

impl Breaker {
    pub fn new(threshold: u32, first: f64, longest: f64, probes: u32) -> Self {
        let state = BreakerState::Closed;
        Self { threshold, first, longest, probes, state, failures: 0, pause: first, until: 0.0, probes_left: 0 }
    }

    /// Of mirrored requests. The pauses are short on purpose: each failed probe is a pair that the error-rate guard
    /// counts, so that a candidate which is down is rolled back on evidence rather than left without any.
    pub fn of_shadow() -> Self {
        Self::new(5, 0.1, 1.0, 4)
    }

    pub fn state(&mut self, now: f64) -> BreakerState {
        if self.state == BreakerState::Open && now >= self.until {
            self.state = BreakerState::HalfOpen;
            self.probes_left = self.probes;
        }
        self.state
    }

    /// May a request be made? In the half-open state each yes is one of the probes.
    pub fn allow(&mut self, now: f64) -> bool {
        match self.state(now) {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => {
                let left = self.probes_left > 0;
                self.probes_left -= u32::from(left);
                left
            }
        }
    }

    /// A whole answer came, whatever its status. Late ones count too: the candidate answers.
    pub fn succeeded(&mut self) {
        self.state = BreakerState::Closed;
        self.failures = 0;
        self.pause = self.first;
    }

    /// Nothing came of it that says how the candidate fares: if it was a probe, the next request is one instead.
    pub fn undecided(&mut self) {
        if self.state == BreakerState::HalfOpen {
            self.probes_left = self.probes.min(self.probes_left + 1);
        }
    }

    /// No whole answer came; true if that opened the breaker.
    pub fn failed(&mut self, now: f64) -> bool {
        match self.state(now) {
            BreakerState::Open => return false, // of a request from before it opened
            BreakerState::Closed => {
                self.failures += 1;
                if self.failures < self.threshold {
                    return false;
                }
            }
            BreakerState::HalfOpen => {}
        }
        self.state = BreakerState::Open;
        self.until = now + self.pause;
        self.pause = self.longest.min(2.0 * self.pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, BreakerState};

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(3, 1.0, 4.0, 2);
        assert_eq!([0; 3].map(|_| breaker.failed(0.0)), [false, false, true]);
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::new(3, 0.1, 1.0, 4);
        for _ in 0..10 {
            assert!(!breaker.failed(0.0));
            assert!(!breaker.failed(0.0));
            breaker.succeeded();
        }
        assert_eq!(breaker.state(0.0), BreakerState::Closed);
        assert!(breaker.allow(0.0));
    }

    #[test]
    fn lets_nothing_through_while_open() {
        let mut breaker = opened();
        assert_eq!(breaker.state(0.99), BreakerState::Open);
        assert!(!breaker.allow(0.99));
    }

    #[test]
    fn half_open_lets_a_few_probes_through() {
        let mut breaker = opened();
        assert_eq!([0; 4].map(|_| breaker.allow(1.0)), [true, true, false, false]);
        assert_eq!(breaker.state(1.0), BreakerState::HalfOpen);
    }

    #[test]
    fn a_probe_that_succeeds_closes_it() {
        let mut breaker = opened();
        breaker.allow(1.0);
        breaker.succeeded();
        assert!((0..10).all(|_| breaker.allow(1.0)));
        assert_eq!([0; 3].map(|_| breaker.failed(1.0)), [false, false, true]);
        assert!(breaker.allow(2.0)); // the pause is the first one again
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut breaker = opened();
        let mut now = 0.0;
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let start = now;
            while !breaker.allow(now) {
                now += 0.5;
            }
            pauses.push(now - start);
            assert!(breaker.failed(now));
        }
        assert_eq!(pauses, [1.0, 2.0, 4.0, 4.0]);
    }

    #[test]
    fn failures_from_before_it_opened_do_not_prolong_it() {
        let mut breaker = opened();
        assert!(!breaker.failed(0.9));
        assert!(breaker.allow(1.0));
    }

    #[test]
    fn a_probe_of_which_nothing_came_is_followed_by_another_one() {
        let mut breaker = opened();
        assert_eq!([0; 3].map(|_| breaker.allow(1.0)), [true, true, false]);
        breaker.undecided();
        assert_eq!([0; 2].map(|_| breaker.allow(1.0)), [true, false]);
        for _ in 0..5 {
            breaker.undecided();
        }
        assert_eq!([0; 3].map(|_| breaker.allow(1.0)), [true, true, false]); // no more than there are
    }

    #[test]
    fn nothing_said_is_no_success() {
        let mut breaker = Breaker::new(3, 0.1, 1.0, 4);
        for _ in 0..2 {
            breaker.failed(0.0);
            breaker.undecided();
        }
        assert!(breaker.failed(0.0));
        breaker.undecided();
        assert!(!breaker.allow(0.05));
    }
}
