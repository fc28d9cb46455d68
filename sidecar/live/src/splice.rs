//! Connections that are passed through as they are: HTTP/2 with prior knowledge, gRPC among them, unmirrored.
//!
//! `live` hands over a client's connection with the bytes that it began with, and the events of both of its sides. It
//! must not know what the bytes mean. The one thing that is added is a GOAWAY when the process leaves: clients of gRPC
//! keep a connection for as long as they can, and one that is closed under them fails their requests.

use crate::attempt::Attempt;
use crate::h2_frames::{Frames, GOAWAY};
use crate::poll::{Key, Kind, Poll, Slab, Token, GONE, READ};
use crate::resolve::{Addresses, Asked, Resolver};
use crate::sock::{Read, Sock};

/// At once, per live process; beyond, the client's connection is closed.
const MOST: usize = 1024;
/// Read at a time. A side is read from while all that it said before has been taken by the other, so this is the most
/// that waits in each direction.
const PIECE: usize = 64 << 10;
/// Seconds after which a client that has had no answer may be told to go as well. A client of gRPC that is told in the
/// moment in which it connects may lose the call that it connected for: it hangs.
const SETTLED: f64 = 1.0;
/// Of what this asks the resolver: others' tags are below it, or have the bit above it.
const TAG: u64 = 1 << 62;

struct Side {
    sock: Sock,
    other: Key,
    /// Of a client's side, until its model is connected.
    joining: Option<Joining>,
    /// Of the model's side, until its client has been told to go.
    frames: Option<Frames>,
    /// When its client came.
    since: f64,
    /// That was SETTLED ago.
    settled: bool,
    /// It will say no more.
    ended: bool,
    /// The other will say no more, which is passed on when all that it said has been.
    shutting: bool,
}

struct Joining {
    first: Vec<u8>,
    /// To connect to the model; without an address, as long as they are being looked for.
    attempt: Attempt,
}

/// All connections that are passed through.
pub struct Splices {
    host: String,
    port: u16,
    connect_time: f64,
    sides: Slab<Side>,
    draining: bool,
}

impl Splices {
    pub fn new(host: String, port: u16, connect_time: f64) -> Self {
        Self { host, port, connect_time, sides: Slab::default(), draining: false }
    }

    /// Take over a client's connection, which nobody watches; false when there are too many.
    pub fn begin(&mut self, client: Sock, first: Vec<u8>, resolver: &mut Resolver, poll: &Poll, now: f64) -> bool {
        if self.sides.len() >= 2 * MOST {
            return false;
        }
        let joining = Joining { first, attempt: Attempt::new([].into(), now + self.connect_time) };
        let mut side = Side::new(client, Key::NONE, now);
        side.joining = Some(joining);
        let key = self.sides.insert(side);
        match resolver.ask(&self.host, self.port, tag(key), now) {
            Asked::Now(addresses) => self.found(key, addresses, poll),
            Asked::Later => {}
            Asked::NoRoom => {
                self.sides.remove(key);
                return false;
            }
        }
        true
    }

    /// What the resolver found, for whoever had asked.
    pub fn resolved(&mut self, tag: u64, addresses: &Addresses, poll: &Poll) {
        if tag >> 62 == TAG >> 62 {
            let key = Key { index: tag as u32, generation: ((tag & !TAG) >> 32) as u32 };
            self.found(key, addresses.clone(), poll);
        }
    }

    pub fn event(&mut self, key: Key, events: u32, poll: &Poll, room: &mut [u8]) {
        let Some(side) = self.sides.get_mut(key) else { return };
        if side.sock.connecting {
            self.connected(key, poll);
            return;
        }
        if !side.sock.flush() {
            self.lost(key, poll);
            return;
        }
        let other = side.other;
        if !side.sock.stalled() {
            self.taken(key, poll);
            self.read_on(other, poll);
        }
        if events & (READ | GONE) != 0 {
            self.read(key, events, poll, room);
        }
        self.watch(key, poll);
    }

    /// Tell clients to go elsewhere from now on, or no more.
    pub fn drain(&mut self, draining: bool, poll: &Poll) {
        self.draining = draining;
        if draining {
            for key in self.sides.keys() {
                self.leave(key, poll);
            }
        }
    }

    /// End those whose model was not to be connected to in time, and see who has been here for a while.
    pub fn sweep(&mut self, now: f64, poll: &Poll) {
        for key in self.sides.keys() {
            let Some(side) = self.sides.get_mut(key) else { continue };
            if side.joining.as_ref().is_some_and(|joining| now >= joining.attempt.until) {
                self.refuse(key);
            } else if !side.settled && now >= side.since + SETTLED {
                side.settled = true;
                self.leave(key, poll);
            }
        }
    }

    pub fn sides(&self) -> usize {
        self.sides.len()
    }

    // -- joining

    fn found(&mut self, client: Key, addresses: Addresses, poll: &Poll) {
        if let Some(joining) = self.joining(client) {
            joining.attempt = Attempt::new(addresses, joining.attempt.until);
            self.connect(client, poll);
        }
    }

    fn joining(&mut self, client: Key) -> Option<&mut Joining> {
        self.sides.get_mut(client).and_then(|side| side.joining.as_mut())
    }

    fn connect(&mut self, client: Key, poll: &Poll) {
        let Some(sock) = self.joining(client).and_then(|joining| joining.attempt.next()) else {
            self.refuse(client);
            return;
        };
        let since = self.sides.get(client).map_or(0.0, |side| side.since);
        let mut side = Side::new(sock, client, since);
        side.frames = Some(Frames::default());
        let model = self.sides.insert(side);
        self.watch(model, poll);
        if let Some(side) = self.sides.get_mut(client) {
            side.other = model;
        }
    }

    /// The first event of a model's connection.
    fn connected(&mut self, model: Key, poll: &Poll) {
        let Some(side) = self.sides.get_mut(model) else { return };
        let (client, made) = (side.other, side.sock.connected());
        if !made {
            self.sides.remove(model);
            self.connect(client, poll);
            return;
        }
        let Some(joining) = self.sides.get_mut(client).and_then(|side| side.joining.take()) else {
            self.sides.remove(model); // the client has left meanwhile
            return;
        };
        self.read_on(model, poll);
        self.write(model, &[&joining.first], poll);
    }

    /// A client whose model cannot be had.
    fn refuse(&mut self, client: Key) {
        if let Some(side) = self.sides.remove(client) {
            self.sides.remove(side.other);
        }
    }

    // -- passing on

    fn read(&mut self, key: Key, events: u32, poll: &Poll, room: &mut [u8]) {
        if !self.may_be_read(key) {
            if events & GONE != 0 {
                self.lost(key, poll);
            }
            return;
        }
        let Some(side) = self.sides.get_mut(key) else { return };
        let piece = room.len().min(PIECE);
        match side.sock.read(&mut room[..piece]) {
            Read::Some(size) => self.pass(key, &room[..size], poll),
            Read::Nothing => {}
            Read::End => self.ended(key, poll),
            Read::Failed => self.lost(key, poll),
        }
    }

    fn pass(&mut self, key: Key, data: &[u8], poll: &Poll) {
        let draining = self.draining;
        let Some(side) = self.sides.get_mut(key) else { return };
        let (other, mut place) = (side.other, None);
        if let Some(frames) = &mut side.frames {
            place = frames.passed(data);
        }
        match place {
            Some(place) if side.tells(draining) => {
                side.frames = None;
                self.write(other, &[&data[..place], GOAWAY, &data[place..]], poll);
            }
            _ => self.write(other, &[data], poll),
        }
    }

    /// Tell the client, unless the model is in the middle of a frame: then that is told when it ends.
    fn leave(&mut self, model: Key, poll: &Poll) {
        let Some(side) = self.sides.get_mut(model) else { return };
        if side.frames.as_ref().is_some_and(Frames::between) && side.tells(self.draining) && !side.ended {
            side.frames = None;
            let client = side.other;
            self.write(client, &[GOAWAY], poll);
        }
    }

    /// To a side, which is then read from no sooner than it has taken this.
    fn write(&mut self, key: Key, pieces: &[&[u8]], poll: &Poll) {
        let Some(side) = self.sides.get_mut(key) else { return };
        if !side.sock.write(pieces) {
            self.lost(key, poll);
            return;
        }
        let (from, stalled) = (side.other, side.sock.stalled());
        self.watch(key, poll);
        if stalled {
            if let Some(from) = self.sides.get_mut(from) {
                from.sock.read_on(false);
            }
            self.watch(from, poll);
        } else {
            self.read_on(from, poll);
        }
    }

    /// Read from a side, if there is more to come and it has somewhere to go.
    fn read_on(&mut self, key: Key, poll: &Poll) {
        let on = self.may_be_read(key);
        if let Some(side) = self.sides.get_mut(key) {
            side.sock.read_on(on);
        }
        self.watch(key, poll);
    }

    fn may_be_read(&self, key: Key) -> bool {
        let Some(side) = self.sides.get(key) else { return false };
        let taken = self.sides.get(side.other).is_some_and(|other| !other.sock.connecting && !other.sock.stalled());
        taken && !side.ended
    }

    fn watch(&mut self, key: Key, poll: &Poll) {
        if let Some(side) = self.sides.get_mut(key) {
            side.sock.watch(poll, Token::new(Kind::Splice, key));
        }
    }

    // -- ending

    /// A side says no more; the other direction may go on.
    fn ended(&mut self, key: Key, poll: &Poll) {
        let Some(side) = self.sides.get_mut(key) else { return };
        side.ended = true;
        side.sock.read_on(false);
        let other = side.other;
        self.watch(key, poll);
        if let Some(other) = self.sides.get_mut(other) {
            other.shutting = true;
        }
        self.taken(other, poll);
        self.taken(key, poll);
    }

    /// A side is gone: the other gets what was said to it, and is closed.
    fn lost(&mut self, key: Key, poll: &Poll) {
        let Some(side) = self.sides.remove(key) else { return };
        if let Some(other) = self.sides.get_mut(side.other) {
            other.ended = true;
            other.shutting = true;
            other.sock.read_on(false);
        }
        self.taken(side.other, poll);
        self.watch(side.other, poll);
    }

    /// If a side has taken all that will be said to it: that is passed on, and where it says no more itself, it is done.
    fn taken(&mut self, key: Key, poll: &Poll) {
        let Some(side) = self.sides.get_mut(key) else { return };
        if !side.shutting || side.sock.stalled() {
            return;
        }
        if side.ended {
            self.sides.remove(key);
        } else {
            side.sock.shut();
            self.watch(key, poll);
        }
    }
}

impl Side {
    fn new(sock: Sock, other: Key, since: f64) -> Self {
        Self { sock, other, joining: None, frames: None, since, settled: false, ended: false, shutting: false }
    }

    /// Whether the client may be told. Who has just come gets one answer first; told at once, it would come again and
    /// again.
    fn tells(&self, draining: bool) -> bool {
        draining && self.frames.as_ref().is_some_and(|frames| self.settled || frames.answered)
    }
}

fn tag(key: Key) -> u64 {
    TAG | u64::from(key.generation) << 32 | u64::from(key.index)
}
