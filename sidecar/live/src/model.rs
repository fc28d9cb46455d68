//! One kept-alive connection to a model, which carries one exchange at a time: the answer is parsed, and delivered
//! written anew. Never used again once the model has sent a byte that was not asked for.
//!
//! It must not know who asked, nor what is mirrored.

use crate::attempt::Attempt;
use crate::chunked::Chunked;
use crate::exchange::{Exchange, Failed, Of, BROKE_OFF, MALFORMED};
use crate::figures::Drop;
use crate::head::{AnswerHead, AnswerReader, Reading, MAX_HEAD};
use crate::live::Live;
use crate::poll::{Key, Kind, Token, GONE, READ, WRITE};
use crate::sock::{Read, Sock};
use crate::status::reason;
use std::io::Write;

enum Phase {
    Head,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
}

pub struct Model {
    pub sock: Sock,
    pub of: Of,
    pub exchange: Key,
    /// While it is being opened: the one exchange that it is for (NONE: any).
    pub connects_for: Key,
    pub attempt: Option<Attempt>,
    reader: AnswerReader,
    /// Of a head that is not whole.
    unread: Vec<u8>,
    phase: Phase,
    /// The body is delivered in chunks.
    chunks: bool,
    keep: bool,
    pub reused: bool,
    pub idle_since: f64,
    /// Bytes since it was opened, and of them before the exchange it carries.
    pub written: u64,
    pub before: u64,
    /// The client does not read: nor do we.
    pub held: bool,
    /// The model does not read.
    pub stalled: bool,
    /// Bytes in a row of which nothing is to be delivered.
    barren: usize,
}

impl Model {
    pub fn new(sock: Sock, of: Of) -> Self {
        Self {
            sock,
            of,
            exchange: Key::NONE,
            connects_for: Key::NONE,
            attempt: None,
            reader: AnswerReader::new(),
            unread: Vec::new(),
            phase: Phase::Head,
            chunks: false,
            keep: false,
            reused: false,
            idle_since: 0.0,
            written: 0,
            before: 0,
            held: false,
            stalled: false,
            barren: 0,
        }
    }
}

impl Live {
    // -- what pools and clients ask for

    /// Send it what there is of the exchange's request.
    pub fn start(&mut self, key: Key, exchange_key: Key) {
        let now = self.now;
        let (Some(model), Some(exchange)) = (self.models.get_mut(key), self.exchanges.get_mut(exchange_key)) else {
            return;
        };
        model.exchange = exchange_key;
        model.phase = Phase::Head;
        model.barren = 0;
        model.before = model.written;
        exchange.connection = key;
        exchange.queued = false;
        exchange.sent = now;
        self.forward(key);
    }

    /// Send it what there is more.
    pub fn forward(&mut self, key: Key) {
        let Some(model) = self.models.get_mut(key) else { return };
        let exchange_key = model.exchange;
        let Some(exchange) = self.exchanges.get_mut(exchange_key) else { return };
        if !exchange.has_unsent() {
            return;
        }
        let head: &[u8] = if exchange.head_sent { &[] } else { &exchange.head.bytes };
        model.written += (head.len() + exchange.unsent.len()) as u64;
        let sound = model.sock.write(&[head, &exchange.unsent]);
        exchange.was_sent();
        if !sound {
            self.broken(Token::new(Kind::Model, key));
            return;
        }
        let stalls = model.sock.stalled() && !model.stalled;
        model.stalled = model.sock.stalled();
        model.sock.watch(&self.poll, Token::new(Kind::Model, key));
        if stalls {
            self.hold_request(exchange_key);
        }
    }

    /// Be done with the connection; what it carries is nobody's business any more.
    pub fn close_model(&mut self, key: Key) {
        if let Some(model) = self.models.remove(key) {
            if model.sock.connecting {
                if let Some(pool) = self.pool(model.of) {
                    pool.opening -= 1;
                }
            } else {
                self.lost_model(model.of, key);
            }
        }
    }

    pub fn fail_model(&mut self, key: Key, failed: Failed) {
        let Some(model) = self.models.get_mut(key) else { return };
        let exchange = std::mem::replace(&mut model.exchange, Key::NONE);
        self.close_model(key);
        if let Some(one) = self.exchanges.get_mut(exchange) {
            one.connection = Key::NONE;
            self.failed(exchange, failed);
        }
    }

    /// The client does not read: read no more from the model for now.
    pub fn hold_answer(&mut self, exchange: Key) {
        self.set_held(exchange, true);
    }

    pub fn release_answer(&mut self, exchange: Key) {
        self.set_held(exchange, false);
    }

    fn set_held(&mut self, exchange: Key, held: bool) {
        let Some(key) = self.exchanges.get(exchange).map(|one| one.connection) else { return };
        if let Some(model) = self.models.get_mut(key) {
            if model.held != held {
                model.held = held;
                model.sock.read_on(!held);
                model.sock.watch(&self.poll, Token::new(Kind::Model, key));
            }
        }
    }

    // -- what the connection tells

    pub fn model_event(&mut self, key: Key, events: u32) {
        let Some(model) = self.models.get_mut(key) else { return };
        if model.sock.connecting {
            self.connecting(key);
            return;
        }
        if events & WRITE != 0 {
            if !model.sock.flush() {
                self.model_broken(key);
                return;
            }
            model.sock.watch(&self.poll, Token::new(Kind::Model, key));
            if model.stalled && !model.sock.stalled() {
                model.stalled = false;
                let exchange = model.exchange;
                self.release_request(exchange);
            }
        }
        if events & (READ | GONE) == 0 {
            return;
        }
        let mut room = std::mem::take(&mut self.room);
        if let Some(model) = self.models.get_mut(key) {
            match model.sock.read(&mut room) {
                Read::Some(size) => self.model_data(key, &room[..size]),
                Read::Nothing => {}
                Read::End => self.model_lost(key, false),
                Read::Failed => self.model_lost(key, true),
            }
        }
        self.room = room;
    }

    /// Writing to it failed. It may have answered before it went, which is still to be read.
    pub fn model_broken(&mut self, key: Key) {
        let mut room = std::mem::take(&mut self.room);
        while let Some(model) = self.models.get_mut(key) {
            model.stalled = true; // whatever it answers, it is not used again
            match model.sock.read(&mut room) {
                Read::Some(size) => self.model_data(key, &room[..size]),
                _ => break,
            }
        }
        self.room = room;
        self.model_lost(key, true);
    }

    /// The connection ended.
    pub fn model_lost(&mut self, key: Key, broken: bool) {
        let Some(model) = self.models.get_mut(key) else { return };
        let exchange_key = std::mem::replace(&mut model.exchange, Key::NONE);
        let (of, reused, chunks) = (model.of, model.reused, model.chunks);
        let until_close = matches!(model.phase, Phase::UntilClose);
        let unread = model.sock.acknowledged().is_some_and(|count| count <= model.before + 1); // one is the handshake's
        self.models.remove(key);
        let Some(exchange) = self.exchanges.get_mut(exchange_key) else {
            self.lost_model(of, key);
            return;
        };
        exchange.connection = Key::NONE;
        if until_close && !broken {
            if chunks {
                self.deliver(exchange_key, b"0\r\n\r\n");
            }
            self.lost_model(of, key);
            self.finished(exchange_key, self.now);
        } else if reused
            && !exchange.begun
            && exchange.wants_answer()
            && (exchange.head.idempotent || unread)
            && exchange.rewind()
        {
            if let Some(pool) = self.pool(of) {
                pool.open -= 1;
                pool.free.retain(|one| *one != key);
            }
            self.again(of, exchange_key);
        } else {
            self.lost_model(of, key);
            self.failed(exchange_key, BROKE_OFF);
        }
    }

    fn model_data(&mut self, key: Key, data: &[u8]) {
        let received = self.now;
        let Some(model) = self.models.get_mut(key) else { return };
        let exchange_key = model.exchange;
        let Some(exchange) = self.exchanges.get_mut(exchange_key) else {
            self.close_model(key); // not asked for
            return;
        };
        exchange.begun = true;
        exchange.activity = received;
        let kept_before = exchange.answer_body.as_ref().filter(|_| !exchange.is_leg()).map(Vec::len);
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let read = if model.unread.is_empty() {
            Reader { model, exchange, rules: &self.rules, draining: self.draining, out: &mut out }.read(data)
        } else {
            let mut whole = std::mem::take(&mut model.unread);
            whole.extend_from_slice(data);
            Reader { model, exchange, rules: &self.rules, draining: self.draining, out: &mut out }.read(&whole)
        };
        let kept = exchange.answer_body.as_ref().map(Vec::len);
        let outgrown = kept.is_none() && (exchange.is_leg() || exchange.body.is_some());
        let extra = match read {
            Ok(extra) => extra,
            Err(()) => {
                self.out = out;
                self.fail_model(key, MALFORMED);
                return;
            }
        };
        let done = matches!(model.phase, Phase::Done);
        if !out.is_empty() {
            model.barren = 0;
        } else if !done {
            model.barren += data.len(); // a head, or trailers, without an end
        }
        let barren = model.barren > MAX_HEAD;
        if outgrown {
            self.outgrown(exchange_key, Drop::TooLarge);
        } else if let (Some(before), Some(now)) = (kept_before, kept) {
            self.hold_bytes(exchange_key, now - before);
        }
        if !out.is_empty() {
            self.deliver(exchange_key, &out);
        }
        self.out = out;
        if barren {
            self.fail_model(key, MALFORMED);
            return;
        }
        if !done {
            return;
        }
        let (Some(model), Some(exchange)) = (self.models.get_mut(key), self.exchanges.get_mut(exchange_key)) else {
            return; // it was left while its last bytes were delivered
        };
        model.exchange = Key::NONE;
        exchange.connection = Key::NONE;
        if model.keep && exchange.complete && !extra && !model.stalled {
            if model.held {
                model.held = false;
                model.sock.read_on(true);
                model.sock.watch(&self.poll, Token::new(Kind::Model, key));
            }
            self.released(key);
        } else {
            self.close_model(key);
        }
        self.finished(exchange_key, received);
    }
}

/// Parses what came of an answer, and writes it anew.
struct Reader<'a> {
    model: &'a mut Model,
    exchange: &'a mut Exchange,
    rules: &'a crate::head::Rules,
    draining: bool,
    out: &'a mut Vec<u8>,
}

impl Reader<'_> {
    /// Whether there was more than the answer; Err: it is none.
    fn read(&mut self, data: &[u8]) -> Result<bool, ()> {
        let mut at = 0;
        loop {
            let rest = &data[at..];
            match &mut self.model.phase {
                Phase::Head => {
                    if rest.is_empty() {
                        return Ok(false);
                    }
                    match self.model.reader.read(rest, self.rules, self.exchange.minted) {
                        Reading::More => {
                            self.model.unread = rest.to_vec();
                            return Ok(false);
                        }
                        Reading::Refused(_) => return Err(()),
                        Reading::Whole(head, used) => {
                            at += used;
                            if head.status >= 200 {
                                self.begin(head);
                            } else if head.status == 101 || head.chunked {
                                return Err(()); // we never ask to switch; no interim answer has a body
                            } // else it is swallowed: we have answered Expect ourselves
                        }
                    }
                }
                Phase::Length(left) => {
                    let size = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= size as u64;
                    if *left == 0 {
                        self.model.phase = Phase::Done;
                    }
                    at += size;
                    if size == 0 {
                        return Ok(false);
                    }
                    self.body(&rest[..size]);
                }
                Phase::Chunked(_) => {
                    if rest.is_empty() {
                        return Ok(false);
                    }
                    at += self.chunked(rest)?;
                }
                Phase::UntilClose => {
                    if !rest.is_empty() {
                        self.body(rest);
                    }
                    return Ok(false);
                }
                Phase::Done => return Ok(!rest.is_empty()),
            }
        }
    }

    fn chunked(&mut self, data: &[u8]) -> Result<usize, ()> {
        let Phase::Chunked(mut chunked) = std::mem::replace(&mut self.model.phase, Phase::Done) else { return Err(()) };
        let progress = chunked.decode(data, &mut |piece| self.body(piece))?;
        if progress.done {
            if self.model.chunks {
                self.out.extend_from_slice(b"0\r\n\r\n");
            }
        } else {
            self.model.phase = Phase::Chunked(chunked);
        }
        Ok(progress.used)
    }

    fn body(&mut self, piece: &[u8]) {
        if self.model.chunks {
            let _ = write!(self.out, "{:x}\r\n", piece.len());
            self.out.extend_from_slice(piece);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.out.extend_from_slice(piece);
        }
        if let Some(body) = &mut self.exchange.answer_body {
            if body.len() + piece.len() > self.exchange.room {
                self.exchange.answer_body = None; // the caller sees that it has outgrown its room
            } else {
                body.extend_from_slice(piece);
            }
        }
    }

    fn begin(&mut self, head: AnswerHead) {
        let status = head.status;
        let to_head = self.exchange.head.is_head;
        let _ = write!(self.out, "HTTP/1.1 {status} {}\r\n", reason(status));
        self.out.extend_from_slice(&head.lines);
        // A server that answers HEAD with a body all the same would have it taken for the next request's answer.
        self.model.keep = head.keep && !to_head;
        self.model.chunks = false;
        if to_head || status == 204 || status == 304 {
            if let Some(length) = head.length.filter(|_| status != 204) {
                let _ = write!(self.out, "content-length: {length}\r\n");
            }
            self.model.phase = Phase::Done;
        } else if let Some(length) = head.length {
            let _ = write!(self.out, "content-length: {length}\r\n");
            self.model.phase = if length == 0 { Phase::Done } else { Phase::Length(length) };
        } else {
            self.model.keep &= head.chunked;
            self.model.phase = if head.chunked { Phase::Chunked(Chunked::new()) } else { Phase::UntilClose };
            if self.exchange.head.http10 {
                self.exchange.keep_alive = false;
            } else {
                self.out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                self.model.chunks = true;
            }
        }
        if self.exchange.minted {
            self.out.extend_from_slice(&self.rules.id_line);
            self.out.extend_from_slice(self.exchange.id.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        if self.draining || !self.exchange.keep_alive {
            self.exchange.keep_alive = false;
            self.out.extend_from_slice(b"connection: close\r\n");
        } else if self.exchange.head.http10 {
            self.out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        self.exchange.status = status;
        if self.exchange.answer_body.is_some() {
            self.exchange.answer_headers = head.lines;
        }
    }
}
