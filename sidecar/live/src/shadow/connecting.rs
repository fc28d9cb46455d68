//! How connections to the candidate come about, and go: a few attempts at a time, for what waits in the queue.

use super::connection::ShadowConnection;
use super::{Shadow, Turn};
use crate::attempt::Attempt;
use crate::figures::Drop;
use crate::poll::{Key, Kind, Poll, Token, GONE, WRITE};
use crate::resolve::{Addresses, Asked};

/// Seconds.
const CONNECT_TIME: f64 = 1.0;
/// Attempts at a time.
const CONNECTING: usize = 4;
/// Between two attempts while nobody is there: each costs more than a request.
const PAUSE: f64 = 0.1;
/// Of the resolver's answers to a pool like this, beside its number: nobody else's tags are so high.
const TAG: u64 = 1 << 63;

impl Shadow {
    pub(super) fn tag(&self) -> u64 {
        TAG | u64::from(self.serial)
    }

    /// The key in the slab from that of an event, and the other way round: events have keys that differ from those of
    /// an earlier pool, of which some may come in the same turn.
    pub(super) fn renamed(&self, key: Key) -> Key {
        Key { generation: key.generation ^ (self.serial & 0xffff) << 12, ..key }
    }

    pub(super) fn token(&self, key: Key) -> Token {
        Token::new(Kind::Shadow, self.renamed(key))
    }

    pub(super) fn connecting(&self) -> usize {
        self.connections.len() - self.open + self.resolving.len()
    }

    pub(super) fn connect_for_queue(&mut self, turn: &mut Turn) {
        for _ in 0..CONNECTING {
            let connecting = self.connecting();
            if turn.now < self.connect_from
                || connecting >= self.queue.len().min(CONNECTING)
                || self.open + connecting >= self.limits.connections
            {
                return;
            }
            let until = turn.now + CONNECT_TIME;
            let asked = turn.resolver.ask(&self.candidate.host, self.candidate.port, self.tag(), turn.now);
            match asked {
                Asked::Now(addresses) => self.connect(addresses, until, turn),
                Asked::Later => self.resolving.push(until),
                Asked::NoRoom => return, // with the next sweep
            }
        }
    }

    pub(super) fn connect(&mut self, addresses: Addresses, until: f64, turn: &mut Turn) {
        let mut attempt = Attempt::new(addresses, until);
        match attempt.next() {
            Some(sock) => {
                let key = self.connections.insert(ShadowConnection::new(sock, attempt, turn.now));
                self.watch(key, turn.poll);
            }
            None => self.unreached(turn),
        }
    }

    fn watch(&mut self, key: Key, poll: &Poll) {
        let token = self.token(key);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.sock.watch(poll, token);
        }
    }

    /// An attempt has come to something.
    pub(super) fn attempted(&mut self, key: Key, events: u32, turn: &mut Turn) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if events & (WRITE | GONE) == 0 {
            return;
        }
        if connection.sock.connected() {
            connection.attempt = None;
            connection.since = turn.now;
            self.open += 1;
            self.unreached_until = 0.0;
            self.serve(key, turn.poll, turn.now);
            return self.watch(key, turn.poll);
        }
        match connection.attempt.as_mut().and_then(Attempt::next) {
            Some(sock) => {
                connection.sock = sock;
                connection.sock.read_on(true);
                self.watch(key, turn.poll);
            }
            None => {
                self.connections.remove(key);
                self.unreached(turn);
            }
        }
    }

    /// Those that take too long.
    pub(super) fn end_attempts(&mut self, turn: &mut Turn) {
        let before = self.connecting();
        self.resolving.retain(|until| turn.now < *until);
        for key in self.connections.keys() {
            let attempt = self.connections.get(key).and_then(|connection| connection.attempt.as_ref());
            if attempt.is_some_and(|attempt| attempt.until <= turn.now) {
                self.connections.remove(key);
            }
        }
        for _ in self.connecting()..before {
            self.unreached(turn);
        }
    }

    /// An attempt came to nothing.
    fn unreached(&mut self, turn: &mut Turn) {
        if turn.now < self.unreached_until {
            self.connect_from = turn.now + PAUSE;
            self.shed_queue(Drop::CandidateUnreached, turn.told);
        } else if let Some(request) = self.queue.pop_front() {
            self.held -= request.size;
            self.refused(request, turn);
        }
    }

    pub(super) fn close(&mut self, key: Key) -> Option<ShadowConnection> {
        let connection = self.connections.remove(key)?;
        self.open -= 1;
        if connection.request.is_none() {
            self.idle.retain(|idle| *idle != key);
        }
        Some(connection)
    }
}
