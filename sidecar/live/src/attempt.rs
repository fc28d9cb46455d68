//! A connection that is to be opened: the first of several addresses that accepts. It must not know what for.

use crate::resolve::Addresses;
use crate::sock::Sock;

pub struct Attempt {
    addresses: Addresses,
    tried: usize,
    /// When time is up, for all of them together.
    pub until: f64,
}

impl Attempt {
    pub fn new(addresses: Addresses, until: f64) -> Self {
        Self { addresses, tried: 0, until }
    }

    /// Begin with the next address that can be begun with.
    pub fn next(&mut self) -> Option<Sock> {
        while let Some(address) = self.addresses.get(self.tried) {
            self.tried += 1;
            if let Ok(sock) = Sock::connect(address) {
                return Some(sock);
            }
        }
        None
    }
}
