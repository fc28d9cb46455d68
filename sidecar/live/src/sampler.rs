//! Which requests are mirrored: those in the share, by the hash of their id, as far as the rate allows.
//!
//! Asked for each eligible request with its id; pure. It must not know what a request is.

use crate::position::position;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    Mirrored,
    /// Not in the share.
    Outside,
    /// In the share, but beyond the rate.
    Beyond,
}

/// A share that adapts: beyond `per_second` it is lowered, so that which ids are mirrored still follows from the ids
/// and not from which came first. A bucket of one second's worth, and of one request at least, cuts what comes before
/// the share has adapted.
#[derive(Default)]
pub struct Sampler {
    share: f64,
    per_second: f64,
    /// The share that holds now: `share`, or less.
    adapted: f64,
    /// In the share, since `since`.
    seen: u64,
    since: f64,
    /// Requests per second in the share, smoothed.
    level: f64,
    tokens: f64,
    bucket: f64,
}

impl Sampler {
    /// The share that holds now.
    pub fn adapted(&self) -> f64 {
        self.adapted
    }

    pub fn set(&mut self, share: f64, per_second: f64, now: f64) {
        if share == self.share && per_second == self.per_second {
            return;
        }
        let bucket = if per_second > 0.0 { per_second.max(1.0) } else { 0.0 };
        *self = Self { share, per_second, adapted: share, seen: 0, since: now, level: 0.0, tokens: bucket, bucket };
    }

    pub fn admit(&mut self, id: &str) -> Admission {
        if self.adapted >= 1.0 {
            self.seen += 1; // everything: where the id falls need not be found out
        } else {
            let there = position(id, "");
            if there >= self.share {
                return Admission::Outside;
            }
            self.seen += 1;
            if there >= self.adapted {
                return Admission::Beyond;
            }
        }
        if self.tokens < 1.0 {
            return Admission::Beyond;
        }
        self.tokens -= 1.0;
        Admission::Mirrored
    }

    /// Adapt to what came; to be called a few times a second.
    pub fn sweep(&mut self, now: f64) {
        let elapsed = now - self.since;
        if elapsed <= 0.0 {
            return;
        }
        self.tokens = self.bucket.min(self.tokens + self.per_second * elapsed);
        let keep = 0.5_f64.powf(elapsed); // half of what is known is a second old
        self.level = keep * self.level + (1.0 - keep) * self.seen as f64 / elapsed;
        self.seen = 0;
        self.since = now;
        let excess = if self.per_second > 0.0 { self.level / self.per_second } else { f64::INFINITY };
        self.adapted = if excess > 1.0 { self.share / excess } else { self.share };
    }
}

#[cfg(test)]
mod tests {
    use super::{position, Admission, Sampler};

    fn sampler(share: f64, per_second: f64) -> Sampler {
        let mut sampler = Sampler::default();
        sampler.set(share, per_second, 0.0);
        sampler
    }

    #[test]
    fn the_share_adapts_so_that_the_rate_holds_and_the_choice_follows_the_ids() {
        let mut sampler = sampler(0.5, 20.0);
        let mut settled = Vec::new();
        let mut beyond = 0;
        let mut per_second = [0; 60];
        for tick in 0..600 {
            let now = f64::from(tick) / 10.0; // 60 s at 400 requests/s, 200/s of them in the share
            sampler.sweep(now);
            for number in 0..40 {
                let id = format!("{tick}-{number}");
                let admission = sampler.admit(&id);
                let there = position(&id, "");
                assert_eq!(admission == Admission::Outside, there >= 0.5);
                beyond += usize::from(admission == Admission::Beyond);
                if admission == Admission::Mirrored {
                    per_second[now as usize] += 1;
                    settled.extend((now > 20.0).then_some(there));
                }
            }
        }
        assert!(per_second.iter().all(|count| *count <= 45)); // two seconds' worth at the most, at the start
        let settled_per_second = f64::from(per_second[20..].iter().sum::<i32>()) / 40.0;
        assert!(15.0 < settled_per_second && settled_per_second <= 20.5, "{settled_per_second}");
        assert!(beyond > 8000);
        // adapted, it is the lowest positions that are taken, not those that came first in each second
        let lowest = settled.iter().filter(|there| **there < 0.1).count();
        assert!(lowest as f64 > 0.95 * settled.len() as f64);
    }

    #[test]
    fn below_the_rate_everything_in_the_share_is_taken() {
        let mut sampler = sampler(1.0, 100.0);
        for tick in 0..100 {
            sampler.sweep(f64::from(tick) / 10.0);
            assert!((0..5).all(|number| sampler.admit(&format!("{tick}-{number}")) == Admission::Mirrored));
        }
    }

    #[test]
    fn a_rate_of_nothing_takes_nothing() {
        let mut sampler = sampler(1.0, 0.0);
        sampler.sweep(1.0);
        assert_eq!(sampler.admit("a"), Admission::Beyond);
    }

    #[test]
    fn a_rate_below_one_a_second_takes_one_now_and_then() {
        for rate in [0.2, 0.5, 1.0] {
            let mut sampler = sampler(1.0, rate);
            let mut taken = 0;
            for tick in 0..1000 {
                sampler.sweep(f64::from(tick) / 10.0);
                taken += i32::from(sampler.admit(&tick.to_string()) == Admission::Mirrored);
            }
            let taken = f64::from(taken);
            assert!(0.5 * rate * 100.0 <= taken && taken <= rate * 100.0 + 2.0, "{taken} at {rate}");
        }
    }
}
