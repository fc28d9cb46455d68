//! One client's connection: its requests, in order, and their answers, in the same order.
//!
//! What comes behind a request stays unread until that one is answered, so that nothing has to be kept for its turn. It
//! must not know what is mirrored, nor how a model is reached.

use crate::chunked::Chunked;
use crate::exchange::Exchange;
use crate::figures::Drop;
use crate::head::{Framing, Reading, Refusal, RequestHead, RequestReader, MAX_HEAD};
use crate::live::Live;
use crate::poll::{Key, Kind, Token, GONE, READ, WRITE};
use crate::sock::{Read, Sock};
use std::io::Write;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// After a refusal, what the client still sends is read and forgotten for so long: closing at once would reset the
/// connection, and with it the refusal that the client has not read yet.
const LINGER: f64 = 2.0;
/// Bytes a second of a request's body, beyond the time that a head has: slower clients are refused.
const SLOWEST: f64 = 500.0;
/// Connections that are accepted in one turn of the loop.
const ACCEPTED: usize = 64;

// Why the client is not read from, as bits.
const MODEL: u8 = 1;
const PIPELINE: u8 = 2;
const CLIENT: u8 = 4;

enum Body {
    Head,
    Length(u64),
    Chunked(Chunked),
}

pub struct Client {
    sock: Sock,
    reader: RequestReader,
    /// What was read and not parsed: of a head that is not whole, or behind a request that is not answered.
    unread: Vec<u8>,
    body: Body,
    /// It is not known yet which protocol this is.
    first: bool,
    /// Whose answer is due.
    pub current: Key,
    /// The current request is being read.
    building: bool,
    /// What the client still sends is not read.
    pub closing: bool,
    held: u8,
    /// It does not take what it was sent, and since when.
    pub stalled: bool,
    stalled_at: f64,
    /// Of lingering; 0 it does not.
    deadline: f64,
    /// Nothing more is written behind what waits.
    shut: bool,
    /// The wait for a request, or of the head that has begun to come.
    pub began: f64,
    head_begun: bool,
    /// Bytes of chunks and trailers without a body's byte, in a row.
    barren: usize,
}

impl Live {
    // -- what the connection tells

    /// Whether there may be more.
    pub fn accept(&mut self) -> bool {
        for _ in 0..ACCEPTED {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: no pointers are passed.
            let descriptor =
                unsafe { libc::accept4(self.settings.listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if descriptor < 0 {
                let error = std::io::Error::last_os_error().raw_os_error();
                if matches!(error, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) {
                    self.listen(false); // it would be told again at once: until the next sweep
                }
                if error != Some(libc::ECONNABORTED) {
                    return false;
                }
                continue;
            }
            self.arrived = self.now;
            let key = self.clients.insert(Client {
                sock: Sock::accepted(descriptor),
                reader: RequestReader::new(),
                unread: Vec::new(),
                body: Body::Head,
                first: true,
                current: Key::NONE,
                building: false,
                closing: false,
                held: 0,
                stalled: false,
                stalled_at: 0.0,
                deadline: 0.0,
                shut: false,
                began: self.now,
                head_begun: false,
                barren: 0,
            });
            if let Some(client) = self.clients.get_mut(key) {
                client.sock.read_on(true);
                client.sock.watch(&self.poll, Token::new(Kind::Client, key));
            }
            if self.clients.len() > self.settings.limits.clients {
                self.say(key, Refusal::NoRoom, false);
            }
        }
        true
    }

    pub fn client_event(&mut self, key: Key, events: u32) {
        if events & WRITE != 0 && !self.client_writable(key) {
            return;
        }
        if events & (READ | GONE) == 0 {
            return;
        }
        let mut room = std::mem::take(&mut self.room);
        if let Some(client) = self.clients.get_mut(key) {
            match client.sock.read(&mut room) {
                Read::Some(size) => self.client_data(key, &room[..size]),
                Read::Nothing => {}
                Read::End | Read::Failed => self.client_left(key),
            }
        }
        self.room = room;
    }

    /// False: it is gone.
    fn client_writable(&mut self, key: Key) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        if !client.sock.flush() {
            self.client_lost(key);
            return false;
        }
        client.sock.watch(&self.poll, Token::new(Kind::Client, key));
        if client.sock.stalled() {
            client.stalled_at = self.now; // it has taken some
            return true;
        }
        if client.sock.ending {
            self.clients.remove(key);
            return false;
        }
        if client.shut {
            client.sock.shut();
            client.deadline = self.now + LINGER;
        }
        if client.stalled {
            client.stalled = false;
            let current = client.current;
            if current != Key::NONE {
                self.release_answer(current);
            } else {
                self.resume(key, CLIENT);
                self.next(key);
            }
        }
        self.clients.get(key).is_some()
    }

    /// It will send no more. A client that has left is not answered; what was written still goes out.
    fn client_left(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.closing && client.sock.stalled() {
            client.sock.ending = true;
            client.sock.read_on(false);
            client.sock.watch(&self.poll, Token::new(Kind::Client, key));
        } else {
            self.client_lost(key);
        }
    }

    pub fn client_lost(&mut self, key: Key) {
        if let Some(client) = self.clients.remove(key) {
            if client.current != Key::NONE {
                self.abandon(client.current);
            }
        }
    }

    fn client_data(&mut self, key: Key, data: &[u8]) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.closing {
            return;
        }
        let mut whole = std::mem::take(&mut client.unread);
        if whole.is_empty() {
            let used = self.parse(key, data);
            self.keep_unread(key, &data[used..]);
        } else {
            whole.extend_from_slice(data);
            let used = self.parse(key, &whole);
            self.keep_unread(key, &whole[used..]);
        }
        self.advance(key);
    }

    fn keep_unread(&mut self, key: Key, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.unread = rest.to_vec();
        }
    }

    // -- what it sends

    /// Take what can be taken now; how many bytes that were.
    fn parse(&mut self, key: Key, data: &[u8]) -> usize {
        let mut at = 0;
        let mut fruitful = false;
        while let Some(client) = self.clients.get_mut(key) {
            let rest = &data[at..];
            if client.closing || rest.is_empty() {
                break;
            }
            let current = client.current;
            match &mut client.body {
                Body::Head => {
                    if current != Key::NONE || client.stalled {
                        self.hold(key, PIPELINE);
                        return at;
                    }
                    if client.first {
                        let known = rest.len().min(PREFACE.len());
                        if rest[..known] == PREFACE[..known] {
                            if known == PREFACE.len() {
                                self.pass_through(key, rest);
                                return data.len();
                            }
                            self.head_begins(key);
                            return at;
                        }
                        client.first = false;
                    }
                    match client.reader.read(rest, &self.rules) {
                        Reading::More => {
                            self.head_begins(key);
                            return at;
                        }
                        Reading::Refused(refusal) => {
                            self.refuse(key, refusal);
                            return data.len();
                        }
                        Reading::Whole(head, used) => {
                            at += used;
                            fruitful = true;
                            client.head_begun = false;
                            self.head_arrived(key, head);
                        }
                    }
                }
                Body::Length(left) => {
                    let size = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= size as u64;
                    let ends = *left == 0;
                    if ends {
                        client.body = Body::Head;
                    }
                    at += size;
                    fruitful = true;
                    self.body_came(current, &rest[..size], false);
                    if ends {
                        self.completed(key);
                    }
                }
                Body::Chunked(_) => match self.chunks_came(key, rest, &mut fruitful) {
                    Some(used) => at += used,
                    None => {
                        self.refuse(key, Refusal::BadRequest);
                        return data.len();
                    }
                },
            }
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.barren = if fruitful || !client.building { 0 } else { client.barren + data.len() };
            if client.barren > MAX_HEAD {
                self.refuse(key, Refusal::BadRequest);
            }
        }
        at
    }

    fn head_begins(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key) {
            if !client.head_begun {
                client.head_begun = true;
                client.began = self.now;
            }
        }
    }

    fn head_arrived(&mut self, key: Key, head: RequestHead) {
        self.now = crate::live::monotonic();
        let body = match head.framing {
            Framing::None | Framing::Length(0) => Body::Head,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Chunked::new()),
        };
        let complete = matches!(body, Body::Head);
        let expects = head.expects;
        let exchange = self.begin(key, head);
        let Some(client) = self.clients.get_mut(key) else { return };
        client.current = exchange;
        client.building = true;
        client.body = body;
        if expects {
            self.client_write(key, CONTINUE);
        }
        if complete {
            self.completed(key);
        }
    }

    fn body_came(&mut self, exchange: Key, piece: &[u8], chunked: bool) {
        let now = self.now;
        let Some(one) = self.exchanges.get_mut(exchange) else { return };
        one.activity = now;
        append(one, piece, chunked);
        let Some(body) = &mut one.body else { return };
        if body.len() + piece.len() > one.room {
            self.outgrown(exchange, Drop::TooLarge);
        } else {
            body.extend_from_slice(piece);
            self.hold_bytes(exchange, piece.len());
        }
    }

    /// None: these are no chunks.
    fn chunks_came(&mut self, key: Key, data: &[u8], fruitful: &mut bool) -> Option<usize> {
        let client = self.clients.get_mut(key)?;
        let current = client.current;
        let Body::Chunked(mut chunked) = std::mem::replace(&mut client.body, Body::Head) else { return None };
        let progress = chunked.decode(data, &mut |piece| {
            *fruitful = true;
            self.body_came(current, piece, true);
        });
        let progress = progress.ok()?;
        if progress.done {
            if let Some(exchange) = self.exchanges.get_mut(current) {
                exchange.unsent.extend_from_slice(b"0\r\n\r\n");
            }
            *fruitful = true;
            self.completed(key);
        } else {
            self.clients.get_mut(key)?.body = Body::Chunked(chunked);
        }
        Some(progress.used)
    }

    /// The current request has been read to its end.
    fn completed(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.building = false;
        if let Some(exchange) = self.exchanges.get_mut(client.current) {
            exchange.complete = true;
        }
    }

    /// All that can be read now has been: send it on.
    fn advance(&mut self, key: Key) {
        let Some(current) = self.clients.get(key).map(|client| client.current) else { return };
        let Some(exchange) = self.exchanges.get_mut(current) else { return };
        if exchange.has_unsent() {
            if exchange.connection != Key::NONE {
                exchange.activity = self.now;
                if exchange.complete {
                    exchange.asked = self.now;
                }
                let connection = exchange.connection;
                self.forward(connection);
            } else if exchange.queued {
                self.hold(key, MODEL);
            } else {
                self.dispatch(current);
            }
        }
        self.ask_candidate_when_whole(current);
    }

    // -- whether it is read from

    fn hold(&mut self, key: Key, why: u8) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.held == 0 && !client.closing {
            client.sock.read_on(false);
            client.sock.watch(&self.poll, Token::new(Kind::Client, key));
        }
        client.held |= why;
    }

    fn resume(&mut self, key: Key, why: u8) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.held & why != 0 {
            client.held &= !why;
            if client.held == 0 && !client.closing {
                client.sock.read_on(true);
                client.sock.watch(&self.poll, Token::new(Kind::Client, key));
            }
        }
    }

    /// The model takes no more of the request for now.
    pub fn hold_request(&mut self, exchange: Key) {
        if let Some(client) = self.exchanges.get(exchange).map(|one| one.client) {
            self.hold(client, MODEL);
        }
    }

    pub fn release_request(&mut self, exchange: Key) {
        if let Some(client) = self.exchanges.get(exchange).map(|one| one.client) {
            self.resume(client, MODEL);
        }
    }

    // -- what it is told

    pub fn client_write(&mut self, key: Key, data: &[u8]) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let token = Token::new(Kind::Client, key);
        if !client.sock.write(&[data]) {
            self.broken(token);
            return;
        }
        if client.sock.stalled() && !client.stalled {
            client.stalled = true;
            client.stalled_at = self.now;
            client.sock.watch(&self.poll, token);
            let current = client.current;
            self.hold_answer(current);
        }
    }

    /// The answer that was due has been written.
    pub fn answered(&mut self, key: Key, complete: bool, keep_alive: bool) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.current = Key::NONE;
        client.began = self.now;
        if !complete {
            self.linger(key);
        } else if !keep_alive {
            self.close(key);
        } else if client.held != 0 || client.stalled || !client.unread.is_empty() {
            let stalled = client.stalled;
            self.resume(key, MODEL);
            if stalled {
                self.hold(key, CLIENT); // no further answer before it has read this one
            } else {
                self.next(key);
            }
        }
    }

    /// There is no answer, or not all of it.
    pub fn unanswered(&mut self, key: Key, refusal: Refusal, delivered: bool, to_head: bool) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.current = Key::NONE;
        client.building = false;
        if delivered {
            self.figures.broken_off += 1;
            self.clients.remove(key); // the only way to say that an answer is not whole
        } else {
            self.say(key, refusal, to_head);
        }
    }

    /// Go on with what the client has sent already.
    fn next(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let unread = std::mem::take(&mut client.unread);
        if !unread.is_empty() {
            let used = self.parse(key, &unread);
            self.keep_unread(key, &unread[used..]);
        }
        // What is left is of a head that is not whole, or waits behind a request again.
        if self.clients.get(key).is_some_and(|client| client.current == Key::NONE || client.unread.is_empty()) {
            self.resume(key, PIPELINE);
        }
        self.advance(key);
    }

    /// What it sends cannot be a request, or comes too slowly.
    fn refuse(&mut self, key: Key, refusal: Refusal) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let current = std::mem::replace(&mut client.current, Key::NONE);
        client.building = false;
        let Some(exchange) = self.exchanges.get(current) else {
            self.say(key, refusal, false);
            return;
        };
        let (begun, to_head) = (exchange.delivered, exchange.head.is_head);
        self.abandon(current);
        if begun {
            self.clients.remove(key);
        } else {
            self.say(key, refusal, to_head);
        }
    }

    fn say(&mut self, key: Key, refusal: Refusal, to_head: bool) {
        self.figures.refuse(refusal.status());
        self.client_write(key, &refusal.answer(to_head));
        self.linger(key);
    }

    fn linger(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.held = 0;
        client.closing = true;
        client.unread = Vec::new();
        client.sock.read_on(true);
        client.sock.watch(&self.poll, Token::new(Kind::Client, key));
        if client.sock.stalled() {
            client.shut = true; // an early answer may be large: it lingers from when that has been taken
        } else {
            client.sock.shut();
            client.deadline = self.now + LINGER;
        }
    }

    /// When what was written has been sent.
    fn close(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.closing = true;
        if client.sock.stalled() {
            client.sock.ending = true;
            client.sock.read_on(false);
            client.sock.watch(&self.poll, Token::new(Kind::Client, key));
        } else {
            self.clients.remove(key);
        }
    }

    // -- now and then

    pub fn sweep_clients(&mut self) {
        let now = self.now;
        for key in self.clients.keys() {
            let Some(client) = self.clients.get(key) else { continue };
            let limits = &self.settings.limits;
            if client.stalled && now - client.stalled_at > limits.client_idle {
                self.client_lost(key); // it takes nothing
            } else if client.deadline > 0.0 {
                if now >= client.deadline {
                    self.client_lost(key);
                }
            } else if client.closing {
                // It goes when what was written has been sent.
            } else if client.current != Key::NONE {
                if self.drips(client) {
                    self.refuse(key, Refusal::RequestTimeout);
                }
            } else if client.head_begun {
                if now - client.began > limits.head_time {
                    self.refuse(key, Refusal::RequestTimeout);
                }
            } else if now - client.began > limits.client_idle {
                self.close_idle(key, now);
            }
        }
    }

    /// Whether its body comes so slowly that it only keeps a connection to the model from others.
    fn drips(&self, client: &Client) -> bool {
        let Some(exchange) = self.exchanges.get(client.current) else { return false };
        let Some(model) = self.models.get(exchange.connection) else { return false };
        let came = (model.written - model.before) as f64;
        client.building && self.now - exchange.sent > self.settings.limits.head_time + came / SLOWEST
    }

    /// Close those with no request under way and none since; one that has just come may have one coming.
    pub fn close_idle_clients(&mut self, before: f64) {
        for key in self.clients.keys() {
            self.close_idle(key, before);
        }
    }

    fn close_idle(&mut self, key: Key, before: f64) {
        let Some(client) = self.clients.get(key) else { return };
        // What the kernel has is looked at: limits come before what was sent while this process was starved.
        if client.current == Key::NONE && !client.closing && client.began <= before && !client.sock.unread() {
            self.close(key);
        }
    }

    fn pass_through(&mut self, key: Key, first: &[u8]) {
        let Some(mut client) = self.clients.remove(key) else { return };
        client.sock.read_on(false);
        client.sock.watch(&self.poll, Token::new(Kind::Client, key));
        if self.splices.begin(client.sock, first.to_vec(), &mut self.resolver, &self.poll, self.now) {
            self.figures.passed_through += 1;
        }
    }
}

/// To what is to be sent on.
fn append(exchange: &mut Exchange, piece: &[u8], chunked: bool) {
    if chunked {
        let _ = write!(exchange.unsent, "{:x}\r\n", piece.len());
        exchange.unsent.extend_from_slice(piece);
        exchange.unsent.extend_from_slice(b"\r\n");
    } else {
        exchange.unsent.extend_from_slice(piece);
    }
}
