//! What is captured, and where it goes: to the candidate and then to the scorer, or to the scorer at once.
//!
//! This is the seam between users and mirroring: no fault here may cost an answer, so a panic is caught, counted and
//! logged. It must not know how an answer is read.

use crate::breaker::Breaker;
use crate::canary::Canary;
use crate::capture::{Captured, LiveAnswer};
use crate::exchange::{Exchange, Of};
use crate::figures::{Drop, Given};
use crate::head::{id_text, RequestHead, Rules};
use crate::live::{monotonic, wall_clock, Live};
use crate::log::say;
use crate::orders::{Dropped, News};
use crate::poll::Key;
use crate::pool::{Bounds, Pool};
use crate::position::position;
use crate::sampler::Admission;
use crate::shadow::{candidate_of, Shadow, ShadowLimits, Told, HELD_BYTES};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Without news from the scorer for so long there is none: nothing is captured, and that is counted.
pub const SILENCE: f64 = 5.0;
/// After the way to the scorer was full, nothing is captured for so long: it would be packed to be thrown away.
const FULL: f64 = 0.02;
const COMPLAINT_EVERY: f64 = 60.0;
const LANGUAGE_MODEL: &str = "openai";

/// Each probe is a user who may have to wait: fewer of them, and later, than of mirrored copies.
pub fn breaker_for_users() -> Breaker {
    Breaker::new(5, 1.0, 15.0, 1)
}

impl Live {
    // -- each request

    /// The exchange for a request, with its id, and whether it is captured.
    pub fn begin(&mut self, client: Key, head: RequestHead) -> Key {
        let mut exchange = Exchange::new(client, head, self.now);
        if self.draining {
            exchange.keep_alive = false;
        }
        if exchange.head.id.is_none() {
            self.mint(&mut exchange);
        }
        if self.capturing && exchange.head.is_post {
            let chosen = catch_unwind(AssertUnwindSafe(|| self.choose(&mut exchange)));
            if chosen.is_err() {
                self.fault();
            }
        }
        self.exchanges.insert(exchange)
    }

    /// An id for a request that came without one, for both models and for the client.
    fn mint(&mut self, exchange: &mut Exchange) {
        self.minted += 1;
        let milliseconds = (wall_clock() * 1000.0) as u64;
        exchange.id = format!("{milliseconds:012x}{}{:012x}", self.unique, self.minted);
        exchange.minted = true;
        let name = self.standing.instructions.id_header.as_bytes();
        exchange.head.add(name, exchange.id.as_bytes());
    }

    /// Capture it, or count why not.
    fn choose(&mut self, exchange: &mut Exchange) {
        if !self.paths.is_empty() {
            let target = exchange.head.target();
            let path = memchr::memchr(b'?', target).map_or(target, |end| &target[..end]);
            if !self.paths.contains(path) {
                return;
            }
        }
        if !exchange.minted {
            match id_text(exchange.head.id.as_deref().unwrap_or_default()) {
                Some(id) => exchange.id = id,
                None => {
                    self.figures.drop(Drop::Id, 1);
                    return;
                }
            }
        }
        let mut record = false;
        match self.sampler.admit(&exchange.id) {
            Admission::Outside => {}
            Admission::Beyond => self.figures.drop(Drop::Rate, 1),
            Admission::Mirrored if self.silent => self.figures.drop(Drop::Silence, 1),
            Admission::Mirrored if self.shedding => self.figures.drop(Drop::Shed, 1),
            Admission::Mirrored if exchange.started < self.full_until => self.figures.drop(Drop::Queue, 1),
            Admission::Mirrored => record = true,
        }
        let mut moved = self.weight > 0.0
            && exchange.started < self.standing.lease_ends()
            && position(&exchange.id, &self.run) < self.weight;
        if moved && !self.breaker.allow(exchange.started) {
            self.figures.count_canary(Given::Skipped);
            moved = false;
        }
        if record || moved {
            exchange.body = Some(Vec::new());
            exchange.answer_body = Some(Vec::new());
            exchange.room = self.standing.instructions.mirror.max_body_bytes;
            exchange.time = wall_clock();
        }
        if moved {
            exchange.canary = Some(Box::new(Canary::new(record)));
        }
    }

    /// Hand a captured exchange on, after the user has the answer.
    pub fn offer(&mut self, key: Key, baseline: LiveAnswer, candidate: Option<LiveAnswer>) {
        let offered = catch_unwind(AssertUnwindSafe(|| self.hand_on(key, baseline, candidate)));
        if offered.is_err() {
            self.fault();
        }
    }

    fn hand_on(&mut self, key: Key, baseline: LiveAnswer, candidate: Option<LiveAnswer>) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let Some(body) = exchange.body.take() else { return };
        let mut headers = Vec::with_capacity(exchange.head.bytes.len() + 64);
        exchange.head.mirror_lines(self.forward_credentials, &mut headers);
        let captured = Captured {
            id: std::mem::take(&mut exchange.id),
            minted: exchange.minted,
            time: exchange.time,
            run: self.run.clone(),
            method: exchange.head.method().to_vec(),
            target: exchange.head.target().to_vec(),
            headers,
            body,
            baseline,
            candidate,
        };
        self.figures.captured += 1;
        match &mut self.shadow {
            Some(shadow) if captured.candidate.is_none() => {
                shadow.offer(Box::new(captured), &mut self.resolver, &self.poll, self.now, &mut self.told);
                self.hear_shadow();
            }
            _ => self.hand_to_scorer(&captured),
        }
    }

    fn hand_to_scorer(&mut self, captured: &Captured) {
        let lost = self.channel.offer(captured, self.now);
        self.lost(lost);
    }

    /// So many that the way to the scorer had taken found no room on it.
    pub fn lost(&mut self, count: u64) {
        if count > 0 {
            self.figures.drop(Drop::Queue, count);
            self.full_until = self.now + FULL;
        }
    }

    /// What became of copies that the candidate was asked.
    pub fn hear_shadow(&mut self) {
        while let Some(told) = self.told.pop_front() {
            match told {
                Told::Answered(captured) => self.hand_to_scorer(&captured),
                Told::Shed(reason) => self.figures.drop(reason, 1),
            }
        }
    }

    /// Something in us is wrong that concerns mirroring only; what, the panic has said.
    fn fault(&mut self) {
        self.figures.drop(Drop::Fault, 1);
        if self.now >= self.complained + COMPLAINT_EVERY {
            self.complained = self.now;
            say("a request is not mirrored");
        }
    }

    // -- what the scorer tells

    pub fn hear(&mut self, news: News) {
        self.now = monotonic();
        if news.instructions.run != self.standing.instructions.run && !self.standing.overtakes(news.heard) {
            self.end_shadow();
            self.report(); // what was dropped counts for the run that ends
        }
        self.last_news = self.now;
        self.scorer_full = news.shedding;
        let heard = news.heard;
        if self.standing.hear(news.instructions, heard) {
            let instructions = &self.standing.instructions;
            self.run = instructions.run.as_str().into();
            self.paths = instructions.model.paths.iter().map(|path| path.clone().into_bytes()).collect();
            self.forward_credentials = instructions.mirror.forward_credentials;
            self.weight = self.standing.weight(heard);
            if self.id_header != instructions.id_header {
                self.id_header.clone_from(&instructions.id_header);
                self.rules = Rules::new(&self.id_header, &self.settings.upstream);
            }
            self.reach_candidate();
            self.follow_shadow();
        }
        self.settle_mirroring();
    }

    /// Have connections to the candidate for users while there is a weight, and to no other.
    fn reach_candidate(&mut self) {
        let instructions = &self.standing.instructions;
        let mirror = &instructions.mirror;
        let wanted = if self.weight > 0.0 {
            instructions.candidate.clone().map(|url| (url, mirror.max_in_flight, mirror.timeout.to_bits()))
        } else {
            None
        };
        if wanted == self.candidate_is {
            if self.candidate.is_none() {
                self.weight = 0.0;
            }
            return;
        }
        self.candidate_is = wanted;
        self.breaker = breaker_for_users();
        self.pools += 1;
        let bounds = Bounds {
            limit: mirror.max_in_flight,
            waiting: mirror.max_in_flight,
            waiting_time: mirror.timeout,
            answer_time: mirror.timeout,
            idle: self.settings.limits.upstream_idle,
            whole_answers: true,
            tag: self.pools,
        };
        self.close_candidate();
        let Some((url, ..)) = &self.candidate_is else { return };
        match candidate_of(url) {
            Some(found) if found.prefix.is_empty() => self.candidate = Some(Pool::new(found.host, found.port, &bounds)),
            _ => {
                say(&format!("users stay with the baseline: the candidate {url:?} is not http://HOST:PORT"));
                self.weight = 0.0;
            }
        }
    }

    /// Ask this run's candidate for copies, where that is done here.
    fn follow_shadow(&mut self) {
        let instructions = &self.standing.instructions;
        let mirror = &instructions.mirror;
        let url = instructions.candidate.clone().unwrap_or_default();
        let asks = !instructions.run.is_empty()
            && !url.is_empty()
            && !instructions.model.request_patch
            && instructions.model.protocol != LANGUAGE_MODEL;
        let wanted = asks.then(|| (instructions.run.clone(), url, mirror.clone()));
        if wanted == self.shadow_is {
            return;
        }
        let limits = ShadowLimits::new(
            mirror.timeout,
            (mirror.max_in_flight / self.settings.workers).max(1),
            mirror.max_body_bytes,
            HELD_BYTES / self.settings.workers,
        );
        self.end_shadow();
        self.shadow_is = wanted;
        let Some((run, url, _)) = &self.shadow_is else { return };
        match candidate_of(url) {
            Some(found) => self.shadow = Some(Shadow::new(found, limits, self.now)),
            None => say(&format!("run {run} is not mirrored: the candidate {url:?} is not http")),
        }
    }

    /// What the candidate has not answered by now counts for the run that ends, as dropped.
    pub fn end_shadow(&mut self) {
        self.shadow_is = None;
        if let Some(mut shadow) = self.shadow.take() {
            shadow.stop(&mut self.told);
            self.hear_shadow();
        }
    }

    // -- now and then

    /// Whether anything is captured now.
    pub fn settle_mirroring(&mut self) {
        let now = self.now;
        let share = self.standing.share();
        self.capturing = share > 0.0;
        self.shedding = self.scorer_full || self.candidate_full;
        self.figures.weight = if now < self.standing.lease_ends() { self.weight } else { 0.0 };
        let silent = now - self.last_news >= SILENCE;
        if silent != self.silent {
            self.silent = silent;
            if silent {
                say("the scorer has said nothing for 5 s: users are served, nothing is mirrored");
            } else {
                say("the scorer is heard again");
            }
        }
        let per_second = self.standing.instructions.mirror.max_pairs_per_second / self.settings.workers as f64;
        self.sampler.set(share, per_second, now);
    }

    pub fn sweep_mirroring(&mut self) {
        let now = self.now;
        if self.shadow.is_none() {
            self.candidate_full = false;
            self.figures.asking = None;
        }
        self.sweep_shadow();
        self.settle_mirroring();
        self.sampler.sweep(now);
        if self.candidate.is_some() {
            self.sweep_pool(Of::Candidate);
        }
        self.figures.silence = now - self.last_news;
        self.figures.share = if self.silent { 0.0 } else { self.sampler.adapted() };
    }

    /// More often than all else, if the candidate's time is short.
    pub fn sweep_shadow(&mut self) {
        let Some(shadow) = &mut self.shadow else { return };
        shadow.sweep(&mut self.resolver, &self.poll, self.now, &mut self.told);
        self.candidate_full = shadow.full(if self.candidate_full { 0.25 } else { 0.75 }, self.now);
        self.figures.asking = Some(shadow.figures(self.now));
        self.hear_shadow();
    }

    /// To the scorer what was dropped since the last time.
    pub fn report(&mut self) {
        let mut counts = BTreeMap::new();
        for reason in Drop::ALL {
            let fresh = self.figures.dropped[*reason as usize] - self.reported[*reason as usize];
            if fresh > 0 {
                counts.insert(reason.text(), fresh);
            }
        }
        if !counts.is_empty() && self.channel.report_dropped(&Dropped { run: &self.run, counts }) {
            self.reported = self.figures.dropped;
        }
    }
}
