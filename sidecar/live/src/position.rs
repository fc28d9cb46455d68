//! Which ids are mirrored, and which are answered by the candidate: `modelcanary_gate.sampling`, to the last bit, since
//! the ledger asks the same of every label that comes.

use blake2b_simd::{Params, PERSONALBYTES};

const SCALE: f64 = 1.0 / 18_446_744_073_709_551_616.0;

/// Where an id falls in [0, 1), uniformly; an id is in a share when its position is below it. A salt (the run's id, for
/// the canary weight) makes a choice independent of the unsalted one.
pub fn position(id: &str, salt: &str) -> f64 {
    let salt = salt.as_bytes();
    let salt = &salt[..salt.len().min(PERSONALBYTES)];
    let hash = Params::new().hash_length(8).personal(salt).hash(id.as_bytes());
    let digest = hash.as_bytes().iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    digest as f64 * SCALE
}

#[cfg(test)]
mod tests {
    use super::position;

    #[test]
    fn falls_where_python_has_it_fall() {
        let long = "x".repeat(256);
        let cases = [
            ("", "", 0.893_167_516_089_738_8),
            ("q1", "", 0.904_349_961_564_443_9),
            ("q1", "r", 0.683_176_446_633_929_6),
            ("7f3a9c0b-1e2d", "run-2026-11-22-a-long-name", 0.575_705_556_320_069),
            ("ünï-☃", "", 0.729_233_758_564_067_5),
            ("ünï-☃", "lauf-ü-☃☃☃☃☃", 0.727_256_351_295_858_1), // cut within a character
            (&long, "default/fraud/3", 0.441_471_645_450_811_3),
        ];
        for (id, salt, there) in cases {
            assert_eq!(position(id, salt), there, "{id:?} {salt:?}");
        }
    }
}
