//! The live process's end of the socket to the scorer. Nothing here waits: what cannot be sent at once is counted as lost.
//!
//! A message for each request would cost more than all else about mirroring: the scorer is woken, and finds nothing of
//! its own in the processor's caches. So what has both answers waits for others until it is `due`. What the scorer must
//! still ask the candidate for waits until the loop's turn ends, because it must not be asked in bursts that the
//! baseline did not see. `channel.py` is the other end. It must not know HTTP, nor what is done with a captured request.

use crate::capture::Captured;
use crate::orders::{Dropped, News};
use crate::room::Room;
use std::io;

/// Larger messages go through shared memory: a socket's buffer holds 208 KiB by default, and one message must not take
/// the room of many.
const LARGE: usize = 48 << 10;
/// What waits to go as one message: a scorer that is woken for many pairs at a time takes half as long for each.
const TOGETHER: usize = 1 << 20;
/// Seconds that a pair may wait for others.
const HAND_OVER: f64 = 0.1;

const CAPTURED: u8 = b'C';
const IN_ROOM: u8 = b'R';
const DROPPED: u8 = b'D';
const NEWS: u8 = b'N';
const READ: u8 = b'T';

pub struct Channel {
    pub descriptor: i32,
    /// The kind, and what waits behind it.
    message: Vec<u8>,
    waiting: u64,
    /// When what waits is to be sent.
    pub due: Option<f64>,
    room: Room,
}

/// What was received.
pub enum Heard {
    News(News),
    /// What cannot be read is left aside.
    Unreadable(String),
    Nothing,
}

impl Channel {
    /// Of a socket and a file for what is large, both inherited.
    pub fn new(descriptor: i32, room: i32) -> io::Result<Self> {
        Ok(Self { descriptor, message: vec![CAPTURED], waiting: 0, due: None, room: Room::new(room)? })
    }

    /// Take a captured request. How many that were taken before, or this one, found no room after all.
    pub fn offer(&mut self, captured: &Captured, now: f64) -> u64 {
        let size = captured.size();
        let mut lost = 0;
        if self.message.len() + size > TOGETHER {
            lost += self.flush();
        }
        captured.pack(&mut self.message);
        self.waiting += 1;
        let due = if captured.candidate.is_some() { now + HAND_OVER } else { now };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        if self.message.len() > TOGETHER {
            lost += self.flush();
        }
        lost
    }

    /// Send what waits. How many found no room.
    pub fn flush(&mut self) -> u64 {
        self.due = None;
        let waiting = std::mem::take(&mut self.waiting);
        if waiting == 0 {
            return 0;
        }
        let sent = if self.message.len() > LARGE { self.send_in_room() } else { self.send(&self.message) };
        if self.message.capacity() > 2 * TOGETHER {
            self.message = vec![CAPTURED];
        } else {
            self.message.truncate(1);
        }
        if sent {
            0
        } else {
            waiting
        }
    }

    pub fn report_dropped(&self, dropped: &Dropped) -> bool {
        let mut message = vec![DROPPED];
        rmp_serde::encode::write_named(&mut message, dropped).is_ok() && self.send(&message)
    }

    /// False: no room, or no scorer; either way it is not mirrored.
    fn send(&self, message: &[u8]) -> bool {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the buffer is as long as is said.
        unsafe { libc::send(self.descriptor, message.as_ptr().cast(), message.len(), flags) >= 0 }
    }

    fn send_in_room(&mut self) -> bool {
        let Some(place) = self.room.write(&self.message[1..]) else { return false };
        let mut message = vec![IN_ROOM];
        message.extend_from_slice(&place.number.to_le_bytes());
        message.extend_from_slice(&(place.start as u32).to_le_bytes());
        message.extend_from_slice(&(place.size as u32).to_le_bytes());
        let sent = self.send(&message);
        if !sent {
            self.room.forget();
        }
        sent
    }

    /// The next news. Call it until there is nothing.
    pub fn receive(&mut self) -> Heard {
        let mut room = vec![0_u8; 1 << 20]; // the kernel gives what of it is written to, and has it back at once
        loop {
            // SAFETY: the buffer is as long as is said.
            let size = unsafe { libc::recv(self.descriptor, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) };
            let message = match usize::try_from(size) {
                Ok(size) if size > 0 => &room[..size],
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => continue,
                _ => return Heard::Nothing,
            };
            match message[0] {
                NEWS => {
                    return match News::read(&message[1..]) {
                        Ok(news) => Heard::News(news),
                        Err(error) => Heard::Unreadable(format!("news cannot be read: {error}")),
                    };
                }
                READ => {
                    if let Some(number) = std::str::from_utf8(&message[1..]).ok().and_then(|text| text.parse().ok()) {
                        self.room.read(number);
                    }
                }
                kind => return Heard::Unreadable(format!("unknown kind of message {kind}")),
            }
        }
    }
}
