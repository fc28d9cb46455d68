//! The bytes that names, values and targets may be of, and how far they go. Pure; it must not know what they are in.

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        if byte as u8 != b'#' {
            table[byte] |= TARGET;
        }
        if matches!(byte as u8, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') {
            table[byte] |= TOKEN;
        }
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] |= TOKEN;
        at += 1;
    }
    table
}

static CLASSES: [u8; 256] = classes();

pub fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

/// Where what began as a name ends: at the first byte, from `at` on, that no name has.
pub fn token_end(input: &[u8], at: usize) -> usize {
    let rest = &input[at..];
    at + rest.iter().position(|&byte| CLASSES[byte as usize] & TOKEN == 0).unwrap_or(rest.len())
}

/// The same of a target. A fragment is none.
pub fn target_end(input: &[u8], at: usize) -> usize {
    let rest = &input[at..];
    at + rest.iter().position(|&byte| CLASSES[byte as usize] & TARGET == 0).unwrap_or(rest.len())
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The same of a value: control characters end it, but for the tab. Eight bytes at a time.
pub fn value_end(input: &[u8], mut at: usize) -> usize {
    loop {
        while let Some(eight) = input.get(at..at + 8) {
            let word =
                u64::from_le_bytes([eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7]]);
            let delete = word ^ (ONES * 0x7f);
            let found = ((word.wrapping_sub(ONES * 0x20) & !word) | (delete.wrapping_sub(ONES) & !delete)) & HIGH;
            if found == 0 {
                at += 8;
                continue;
            }
            at += found.trailing_zeros() as usize / 8; // the lowest that is found is one; those above it may be none
            break;
        }
        match input.get(at) {
            None => return at,
            Some(b'\t' | 0x20..=0x7e | 0x80..) => at += 1,
            Some(_) => return at,
        }
    }
}

/// The first byte from `at` on that is no space or tab.
pub fn past_blank(input: &[u8], at: usize) -> usize {
    let rest = &input[at..];
    at + rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_a_value_cannot_have_ends_it_wherever_it_is() {
        for byte in 0..=255_u8 {
            for before in 0..20 {
                for fill in [b'a', 0xff, b'\t', 0x80] {
                    let mut input = vec![fill; 20];
                    input[before] = byte;
                    let ends = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
                    assert_eq!(value_end(&input, 0), if ends { before } else { 20 }, "{byte} at {before}");
                }
            }
        }
    }

    #[test]
    fn a_name_is_of_token_characters() {
        let token: Vec<u8> = (0..=255).filter(|&byte| is_token(byte)).collect();
        assert_eq!(token, b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~");
        assert_eq!(token_end(b"X-A: 1", 0), 3);
        assert_eq!(token_end(b"X-A", 1), 3);
    }

    #[test]
    fn a_target_is_of_visible_ascii_without_a_fragment() {
        for byte in 0..=255_u8 {
            let sound = matches!(byte, 0x21..=0x7e) && byte != b'#';
            assert_eq!(target_end(&[b'/', byte], 0), if sound { 2 } else { 1 }, "{byte}");
        }
    }

    #[test]
    fn blanks_are_spaces_and_tabs() {
        assert_eq!(past_blank(b"  \t\x0b", 1), 3);
    }
}
