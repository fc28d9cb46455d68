//! Finds addresses of names by threads, because the C library's search may wait for seconds, and the loop for nothing.
//!
//! Pools ask before they connect; the loop watches the descriptor and takes what was found. A pod's address changes, so
//! what was found holds for a second at the most. It must not know who asks.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd};
use std::rc::Rc;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread;

/// All that a name has, to be tried in this order (`localhost` may mean IPv6 first, and nobody there). Empty: none.
pub type Addresses = Rc<[SocketAddr]>;

/// Names that are looked for at a time, each by a thread of its own so that one that hangs holds up no other.
const SEARCHES: usize = 8;
/// Seconds for which what was found holds.
const HOLDS: f64 = 1.0;
/// The most that wait for one name.
const WAITING: usize = 256;

pub enum Asked {
    Now(Addresses),
    /// `take` will say.
    Later,
    /// Too much is being looked for.
    NoRoom,
}

struct Search {
    host: String,
    port: u16,
    asked_by: Vec<u64>,
}

struct Found {
    host: String,
    port: u16,
    addresses: Addresses,
    until: f64,
}

type Answer = (String, u16, Vec<SocketAddr>);

pub struct Resolver {
    wake: Arc<File>,
    answers: Receiver<Answer>,
    answer: Sender<Answer>,
    searches: Vec<Search>,
    found: Vec<Found>,
}

impl Resolver {
    /// With the descriptor that becomes readable when there is something to take.
    pub fn new() -> io::Result<(Self, i32)> {
        // SAFETY: no pointers are passed.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made, and is nobody else's.
        let wake = Arc::new(unsafe { File::from_raw_fd(descriptor) });
        let descriptor = wake.as_raw_fd();
        let (answer, answers) = channel();
        Ok((Self { wake, answers, answer, searches: Vec::new(), found: Vec::new() }, descriptor))
    }

    /// `tag` comes back with what is found later.
    pub fn ask(&mut self, host: &str, port: u16, tag: u64, now: f64) -> Asked {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Asked::Now(Rc::new([SocketAddr::new(address, port)]));
        }
        self.found.retain(|found| now < found.until);
        if let Some(found) = self.found.iter().find(|found| found.port == port && found.host == host) {
            return Asked::Now(found.addresses.clone());
        }
        if let Some(search) = self.searches.iter_mut().find(|search| search.port == port && search.host == host) {
            if search.asked_by.len() >= WAITING {
                return Asked::NoRoom;
            }
            search.asked_by.push(tag);
            return Asked::Later;
        }
        if self.searches.len() >= SEARCHES || !self.search(host.to_owned(), port) {
            return Asked::NoRoom;
        }
        self.searches.push(Search { host: host.to_owned(), port, asked_by: vec![tag] });
        Asked::Later
    }

    /// Whether a thread could be had.
    fn search(&self, host: String, port: u16) -> bool {
        let (wake, answer) = (self.wake.clone(), self.answer.clone());
        let search = move || {
            let addresses = (host.as_str(), port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
            // Neither can fail while the resolver is there: the channel has no bound but SEARCHES, nor has the count.
            if answer.send((host, port, addresses)).is_ok() {
                let _ = (&*wake).write(&1_u64.to_ne_bytes());
            }
        };
        thread::Builder::new().name("resolver".into()).stack_size(512 << 10).spawn(search).is_ok()
    }

    /// When the descriptor is readable: what was found, for each who asked.
    pub fn take(&mut self, now: f64) -> Vec<(u64, Addresses)> {
        let _ = (&*self.wake).read(&mut [0; 8]);
        let mut told = Vec::new();
        while let Ok((host, port, addresses)) = self.answers.try_recv() {
            let addresses: Addresses = addresses.into();
            if let Some(at) = self.searches.iter().position(|search| search.port == port && search.host == host) {
                let search = self.searches.swap_remove(at);
                told.extend(search.asked_by.into_iter().map(|tag| (tag, addresses.clone())));
            }
            if !addresses.is_empty() {
                self.found.push(Found { host, port, addresses, until: now + HOLDS });
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn resolver() -> Resolver {
        Resolver::new().expect("an eventfd").0
    }

    fn taken(resolver: &mut Resolver, now: f64) -> Vec<(u64, Addresses)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = resolver.take(now);
            if !found.is_empty() {
                return found;
            }
            assert!(Instant::now() < deadline, "nothing was found in time");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn addresses_are_known_at_once() {
        for (host, written) in [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80")] {
            match resolver().ask(host, 80, 1, 0.0) {
                Asked::Now(addresses) => assert_eq!(*addresses, [written.parse().expect("an address")]),
                _ => panic!("{host} was looked for"),
            }
        }
    }

    #[test]
    fn a_name_is_looked_for_once_and_holds_for_a_second() {
        let mut resolver = resolver();
        assert!(matches!(resolver.ask("localhost", 80, 1, 0.0), Asked::Later));
        assert!(matches!(resolver.ask("localhost", 80, 2, 0.0), Asked::Later));
        assert_eq!(resolver.searches.len(), 1);
        let found = taken(&mut resolver, 10.0);
        assert_eq!(found.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [1, 2]);
        assert!(found[0].1.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        assert!(!found[0].1.is_empty());
        assert!(matches!(resolver.ask("localhost", 80, 3, 10.9), Asked::Now(_)));
        assert!(matches!(resolver.ask("localhost", 81, 3, 10.9), Asked::Later));
        assert!(matches!(resolver.ask("localhost", 80, 3, 11.0), Asked::Later));
    }

    #[test]
    fn what_is_no_name_has_no_address_and_is_not_remembered() {
        let mut resolver = resolver();
        let long = "x".repeat(300);
        for host in ["a\0b", &long] {
            assert!(matches!(resolver.ask(host, 80, 7, 0.0), Asked::Later));
            let found = taken(&mut resolver, 0.0);
            assert_eq!((found.len(), found[0].0, found[0].1.len()), (1, 7, 0), "{host:?}");
            assert!(matches!(resolver.ask(host, 80, 8, 0.0), Asked::Later));
            taken(&mut resolver, 0.0);
        }
    }
}
