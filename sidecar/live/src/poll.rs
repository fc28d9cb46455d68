//! What the kernel is asked to watch, and what it tells. It must not know what a connection is for.

use std::io;

/// Which connection an event is of: its kind, its place in that kind's slab, and the place's generation, so that an
/// event of a connection that was closed in the same turn finds nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Token {
    pub kind: Kind,
    pub key: Key,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    Listener = 0,
    Scorer = 1,
    Resolver = 2,
    Client = 3,
    Model = 4,
    Shadow = 5,
    Splice = 6,
}

const KINDS: [Kind; 7] =
    [Kind::Listener, Kind::Scorer, Kind::Resolver, Kind::Client, Kind::Model, Kind::Shadow, Kind::Splice];

/// A place in a slab, and how often it had been taken before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Key {
    pub index: u32,
    pub generation: u32,
}

impl Key {
    pub const NONE: Key = Key { index: u32::MAX, generation: 0 };
}

const GENERATIONS: u32 = (1 << 28) - 1;

impl Token {
    pub fn new(kind: Kind, key: Key) -> Self {
        Self { kind, key }
    }

    fn pack(self) -> u64 {
        (self.kind as u64) << 60 | u64::from(self.key.generation & GENERATIONS) << 32 | u64::from(self.key.index)
    }

    fn unpack(data: u64) -> Self {
        Self {
            kind: KINDS[(data >> 60) as usize % KINDS.len()],
            key: Key { index: data as u32, generation: (data >> 32) as u32 & GENERATIONS },
        }
    }
}

/// Values that others refer to by `Key`; the one of a value that was removed finds nothing.
pub struct Slab<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.1 = Some(value);
        Key { index, generation: entry.0 }
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => value.as_ref(),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => value.as_mut(),
            _ => None,
        }
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        match self.entries.get_mut(key.index as usize) {
            Some((generation, value)) if *generation == key.generation && value.is_some() => {
                *generation = (*generation + 1) & GENERATIONS;
                self.free.push(key.index);
                value.take()
            }
            _ => None,
        }
    }

    pub fn keys(&self) -> Vec<Key> {
        let taken = self.entries.iter().enumerate().filter(|(_, entry)| entry.1.is_some());
        taken.map(|(index, entry)| Key { index: index as u32, generation: entry.0 }).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.1.as_ref())
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

pub const READ: u32 = libc::EPOLLIN as u32;
pub const WRITE: u32 = libc::EPOLLOUT as u32;
/// The peer is gone, or the connection failed: told whatever was asked for.
pub const GONE: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

const EVENTS: usize = 256;

pub struct Poll {
    descriptor: i32,
    events: Vec<libc::epoll_event>,
    told: usize,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { descriptor, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS], told: 0 })
    }

    /// Until something happens or so many milliseconds have passed (-1: for ever). How many events there are.
    pub fn wait(&mut self, milliseconds: i32) -> usize {
        // SAFETY: the buffer is as long as is said.
        let told = unsafe { libc::epoll_wait(self.descriptor, self.events.as_mut_ptr(), EVENTS as i32, milliseconds) };
        self.told = usize::try_from(told).unwrap_or(0); // interrupted: nothing
        self.told
    }

    pub fn event(&self, number: usize) -> (Token, u32) {
        let event = self.events[number];
        (Token::unpack(event.u64), event.events)
    }

    /// Watch a descriptor from `before` (0: not at all) for `wanted` (0: no more). Level-triggered.
    pub fn watch(&self, descriptor: i32, token: Token, before: u32, wanted: u32) {
        let operation = match (before, wanted) {
            (0, 0) => return,
            (0, _) => libc::EPOLL_CTL_ADD,
            (_, 0) => libc::EPOLL_CTL_DEL,
            _ => libc::EPOLL_CTL_MOD,
        };
        let mut event = libc::epoll_event { events: wanted, u64: token.pack() };
        // SAFETY: the event outlives the call. It fails for a descriptor that is closed already, which is gone anyway.
        unsafe { libc::epoll_ctl(self.descriptor, operation, descriptor, &mut event) };
    }
}
