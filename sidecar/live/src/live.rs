//! What all connections of one live process share, and the loop that serves them until the sidecar has left.
//!
//! One thread: everything is decided on events, and time limits are kept by one sweep ten times a second. `main` of the
//! Python side says on the board what stage of leaving the sidecar is in. It must not know how pairs are made.

use crate::board::Board;
use crate::breaker::Breaker;
use crate::channel::{Channel, Heard};
use crate::client::Client;
use crate::exchange::{Exchange, Of};
use crate::figures::{Drop, Figures};
use crate::head::Rules;
use crate::log::say;
use crate::mirroring::breaker_for_users;
use crate::model::Model;
use crate::orders::{Mirror, Standing};
use crate::poll::{Key, Kind, Poll, Slab, Token, GONE, READ};
use crate::pool::{Bounds, Pool, BASELINE_TAG};
use crate::resolve::Resolver;
use crate::sampler::Sampler;
use crate::settings::Settings;
use crate::shadow::{Shadow, Told};
use crate::splice::Splices;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Seconds between sweeps: how coarse time limits are.
const SWEEP: f64 = 0.1;
/// Sweeps between reports to the scorer.
const REPORT: u32 = 10;
/// Bytes that are read at once.
const ROOM: usize = 128 << 10;
/// At the end, for the candidate to answer what it was asked.
const FINISH: f64 = 5.0;
/// For so long nothing has come on a connection before it is closed as idle; no longer than the delay.
const QUIET: f64 = 1.0;

// Stages of leaving, as the board has them.
const LEAVING: u64 = 1;
const EMPTYING: u64 = 2;
const FINISHING: u64 = 3;
const ENDED: u64 = 4;

static SIGNALLED: AtomicBool = AtomicBool::new(false);

/// Seconds of CLOCK_MONOTONIC, which all processes of a machine share.
pub fn monotonic() -> f64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Seconds since the epoch.
pub fn wall_clock() -> f64 {
    clock(libc::CLOCK_REALTIME)
}

fn clock(which: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it outlives the call.
    unsafe { libc::clock_gettime(which, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// What is done when the present event has been, so that nobody is called back in the middle of something.
pub enum Soon {
    ConnectFailed(Of, Key),
    Broken(Token),
}

pub struct Live {
    pub settings: Settings,
    pub poll: Poll,
    pub resolver: Resolver,
    pub channel: Channel,
    board: Board,
    pub figures: Figures,
    /// The time as of the present event.
    pub now: f64,
    pub clients: Slab<Client>,
    pub models: Slab<Model>,
    pub exchanges: Slab<Exchange>,
    pub splices: Splices,
    pub baseline: Pool,
    /// Only under a weight.
    pub candidate: Option<Pool>,
    /// Pools that there have been: their tags.
    pub pools: u64,
    pub candidate_is: Option<(String, usize, u64)>,
    pub shadow: Option<Shadow>,
    pub shadow_is: Option<(String, String, Mirror)>,
    pub told: VecDeque<Told>,
    pub soon: VecDeque<Soon>,
    /// Canaries whose baseline has answered, and until when the candidate may.
    pub graces: Vec<(f64, Key)>,
    /// For what is read, and for what is written anew: used within one event.
    pub room: Vec<u8>,
    pub out: Vec<u8>,
    pub rules: Rules,
    pub id_header: String,
    pub standing: Standing,
    pub run: Rc<str>,
    pub paths: HashSet<Vec<u8>>,
    pub forward_credentials: bool,
    pub sampler: Sampler,
    /// Of the candidate, for users.
    pub breaker: Breaker,
    pub weight: f64,
    pub capturing: bool,
    /// There is no use in capturing: the scorer has no room, or the candidate has none or fails too often.
    pub shedding: bool,
    pub scorer_full: bool,
    pub candidate_full: bool,
    pub last_news: f64,
    pub silent: bool,
    pub full_until: f64,
    pub complained: f64,
    pub unique: String,
    pub minted: u64,
    /// Bytes of requests and answers under way that are kept for their pairs.
    pub held: usize,
    pub reported: [u64; Drop::ALL.len()],
    /// When the last client came.
    pub arrived: f64,
    pub draining: bool,
    listening: bool,
    closed: bool,
    stage: u64,
    /// When the process that started this one was found to be gone.
    orphaned: Option<f64>,
    parent: i32,
    swept: f64,
    sweeps: u32,
}

impl Live {
    pub fn new(settings: Settings) -> io::Result<Self> {
        let now = monotonic();
        let (resolver, found) = Resolver::new()?;
        let poll = Poll::new()?;
        poll.watch(found, Token::new(Kind::Resolver, Key::NONE), 0, READ);
        poll.watch(settings.scorer, Token::new(Kind::Scorer, Key::NONE), 0, READ);
        let limits = &settings.limits;
        let bounds = Bounds {
            limit: limits.connections,
            waiting: limits.waiting,
            waiting_time: limits.waiting_time,
            answer_time: limits.answer_time,
            idle: limits.upstream_idle,
            whole_answers: false,
            tag: BASELINE_TAG,
        };
        let standing = Standing::default();
        let id_header = standing.instructions.id_header.clone();
        let mut unique = [0_u8; 4];
        // SAFETY: the buffer is as long as is said. So few bytes are always there.
        unsafe { libc::getrandom(unique.as_mut_ptr().cast(), unique.len(), 0) };
        let mut live = Self {
            board: Board::new(settings.board, settings.worker)?,
            channel: Channel::new(settings.scorer, settings.room)?,
            splices: Splices::new(settings.host.clone(), settings.port, limits.connect_time),
            baseline: Pool::new(settings.host.clone(), settings.port, &bounds),
            rules: Rules::new(&id_header, &settings.upstream),
            poll,
            resolver,
            figures: Figures::default(),
            now,
            clients: Slab::default(),
            models: Slab::default(),
            exchanges: Slab::default(),
            candidate: None,
            pools: BASELINE_TAG,
            candidate_is: None,
            shadow: None,
            shadow_is: None,
            told: VecDeque::new(),
            soon: VecDeque::new(),
            graces: Vec::new(),
            room: vec![0; ROOM],
            out: Vec::new(),
            id_header,
            standing,
            run: "".into(),
            paths: HashSet::new(),
            forward_credentials: false,
            sampler: Sampler::default(),
            breaker: breaker_for_users(),
            weight: 0.0,
            capturing: false,
            shedding: false,
            scorer_full: false,
            candidate_full: false,
            last_news: now,
            silent: false,
            full_until: f64::NEG_INFINITY,
            complained: f64::NEG_INFINITY,
            unique: unique.iter().map(|byte| format!("{byte:02x}")).collect(),
            minted: 0,
            held: 0,
            reported: [0; Drop::ALL.len()],
            arrived: now,
            draining: false,
            listening: false,
            closed: false,
            stage: 0,
            orphaned: None,
            parent: settings.parent,
            swept: now,
            sweeps: 0,
            settings,
        };
        live.listen(true);
        Ok(live)
    }

    /// Until the sidecar has left.
    pub fn run(&mut self) {
        watch_signals();
        self.board.write(&self.figures);
        while self.stage != ENDED {
            self.turn();
        }
        self.finish();
    }

    /// Wait for something, and do all of it.
    fn turn(&mut self) {
        let mut due = self.swept + SWEEP;
        due = self.channel.due.map_or(due, |at| due.min(at));
        due = self.graces.iter().fold(due, |due, (at, _)| due.min(*at));
        if let Some(shadow) = &self.shadow {
            due = due.min(shadow.next_due(self.now));
        }
        let pause = ((due - monotonic()) * 1000.0).ceil().clamp(0.0, 100.0);
        let told = self.poll.wait(pause as i32);
        for number in 0..told {
            let (token, events) = self.poll.event(number);
            self.now = monotonic();
            self.event(token, events);
            self.do_soon();
        }
        if told == 0 {
            self.now = monotonic();
        }
        if !self.graces.is_empty() {
            self.end_graces();
            self.do_soon();
        }
        if self.channel.due.is_some_and(|at| self.now >= at) {
            let lost = self.channel.flush();
            self.lost(lost);
        }
        if self.now >= self.swept + SWEEP {
            self.sweep();
        } else if self.shadow.as_ref().is_some_and(|shadow| self.now >= shadow.next_due(self.now)) {
            self.sweep_shadow();
        }
        self.do_soon();
    }

    fn event(&mut self, token: Token, events: u32) {
        match token.kind {
            Kind::Client => self.client_event(token.key, events),
            Kind::Model => self.model_event(token.key, events),
            Kind::Shadow => {
                if let Some(shadow) = &mut self.shadow {
                    let (poll, told) = (&self.poll, &mut self.told);
                    shadow.event(token.key, events, &mut self.resolver, poll, self.now, &mut self.room, told);
                    self.hear_shadow();
                }
            }
            Kind::Splice => self.splices.event(token.key, events, &self.poll, &mut self.room),
            Kind::Listener => {
                self.accept();
            }
            Kind::Scorer => {
                self.hear_scorer();
                if events & GONE != 0 {
                    self.poll.watch(self.settings.scorer, token, READ, 0); // nobody is there any more: told for ever
                }
            }
            Kind::Resolver => self.hear_resolver(),
        }
    }

    fn do_soon(&mut self) {
        while let Some(soon) = self.soon.pop_front() {
            match soon {
                Soon::ConnectFailed(of, exchange) => self.connect_failed(of, exchange),
                Soon::Broken(token) if token.kind == Kind::Client => self.client_lost(token.key),
                Soon::Broken(token) => self.model_broken(token.key),
            }
        }
    }

    /// Writing to it failed.
    pub fn broken(&mut self, token: Token) {
        self.soon.push_back(Soon::Broken(token));
    }

    fn hear_scorer(&mut self) {
        loop {
            match self.channel.receive() {
                Heard::News(news) => self.hear(news),
                Heard::Unreadable(why) => say(&format!("the scorer's news are left aside: {why}")),
                Heard::Nothing => return,
            }
        }
    }

    fn hear_resolver(&mut self) {
        for (tag, addresses) in self.resolver.take(self.now) {
            self.resolved(tag, &addresses);
            self.splices.resolved(tag, &addresses, &self.poll);
            if let Some(shadow) = &mut self.shadow {
                shadow.resolved(tag, &addresses, &mut self.resolver, &self.poll, self.now, &mut self.told);
            }
            self.hear_shadow();
        }
    }

    // -- now and then

    fn sweep(&mut self) {
        let now = self.now;
        let late = now - self.swept - SWEEP;
        self.figures.loop_lag = late.max(0.95 * self.figures.loop_lag);
        self.swept = now;
        self.sweep_mirroring();
        self.sweep_pool(Of::Baseline);
        self.sweep_clients();
        self.splices.sweep(now, &self.poll);
        self.sweeps += 1;
        if self.sweeps % REPORT == 0 {
            self.report();
        }
        if !self.listening && !self.closed {
            self.listen(true);
        }
        self.follow_stage();
        self.show();
    }

    fn show(&mut self) {
        let figures = &mut self.figures;
        figures.stage = self.stage;
        figures.clients = self.clients.len();
        figures.sides = self.splices.sides();
        figures.arrived = self.arrived;
        figures.connections = self.baseline.open;
        figures.waiting = self.baseline.queue.len();
        self.figures.in_flight = self.busy(Of::Baseline);
        self.figures.busy = self.is_busy();
        self.board.write(&self.figures);
    }

    /// A model is asked, or a client has not taken what it was sent.
    fn is_busy(&self) -> bool {
        let waits = |pool: &Pool| pool.opening > 0 || !pool.queue.is_empty();
        waits(&self.baseline)
            || self.candidate.as_ref().is_some_and(waits)
            || self.models.iter().any(|model| model.exchange != Key::NONE)
            || self.clients.iter().any(|client| client.stalled)
    }

    // -- leaving

    fn follow_stage(&mut self) {
        let stage = if self.is_orphaned() { self.stage_of_an_orphan() } else { self.board.stage() };
        let draining = stage >= LEAVING;
        if draining != self.draining {
            self.draining = draining;
            self.splices.drain(draining, &self.poll);
        }
        if stage >= FINISHING {
            self.stop_accepting();
        }
        if stage >= EMPTYING {
            let quiet = QUIET.min(self.settings.limits.drain_delay);
            self.close_idle_clients(self.now - quiet);
        }
        self.stage = stage;
    }

    /// Signals are for the process that started this one, which says on the board what to do: unless it is gone.
    fn is_orphaned(&mut self) -> bool {
        // SAFETY: no pointers are passed.
        if self.orphaned.is_none() && SIGNALLED.load(Ordering::Relaxed) && unsafe { libc::getppid() } != self.parent {
            say("the process that watches this one is gone: draining");
            self.orphaned = Some(self.now);
        }
        self.orphaned.is_some()
    }

    fn stage_of_an_orphan(&self) -> u64 {
        let since = self.orphaned.unwrap_or(self.now);
        let gone = self.closed && self.clients.is_empty() && self.splices.sides() == 0 && !self.is_busy();
        if gone || self.now - since > self.settings.limits.drain_time {
            ENDED
        } else {
            FINISHING
        }
    }

    pub fn listen(&mut self, on: bool) {
        if self.closed || on == self.listening {
            return;
        }
        self.listening = on;
        let (before, wanted) = if on { (0, READ) } else { (READ, 0) };
        self.poll.watch(self.settings.listener, Token::new(Kind::Listener, Key::NONE), before, wanted);
    }

    fn stop_accepting(&mut self) {
        if !self.closed {
            while self.accept() {} // what has come has not been told otherwise
            self.listen(false);
            self.closed = true;
            // SAFETY: it was inherited for this process alone.
            unsafe { libc::close(self.settings.listener) };
        }
    }

    /// Wait for what the candidate was asked, then hand over what waits.
    fn finish(&mut self) {
        let until = self.now + self.standing.instructions.mirror.timeout.min(FINISH);
        while self.shadow.as_ref().is_some_and(|shadow| shadow.pending() > 0) && self.now < until {
            self.turn();
        }
        self.end_shadow();
        let lost = self.channel.flush();
        self.lost(lost);
        self.report();
        self.show();
    }
}

/// They are blocked until here, so that none is lost, and none ends a process that has only begun.
fn watch_signals() {
    extern "C" fn note(_: i32) {
        SIGNALLED.store(true, Ordering::Relaxed);
    }
    for number in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: all-zero is a valid value; the handler does nothing but store.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as usize;
            libc::sigaction(number, &action, std::ptr::null_mut());
            let mut unblocked: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut unblocked, number);
            libc::sigprocmask(libc::SIG_UNBLOCK, &unblocked, std::ptr::null_mut());
        }
    }
}
