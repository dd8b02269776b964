//! Sizes on the command line: a number, with K, M, G or T for powers of 1024.

use anyhow::{Context, Result, ensure};

pub fn parse(text: &str) -> Result<u64> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K')) => (&text[..at], 10),
        Some((at, 'M')) => (&text[..at], 20),
        Some((at, 'G')) => (&text[..at], 30),
        Some((at, 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().context("a size is a number, with K, M, G or T behind it")?;
    let bytes = number.checked_mul(1 << shift).context("that is more than 64 bits hold")?;
    ensure!(bytes > 0, "a size is not zero");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_powers_of_1024_and_nonsense_is_refused() {
        assert_eq!(parse("4096").expect("a size"), 4096);
        assert_eq!(parse("2G").expect("a size"), 2 << 30);
        for text in ["", "G", "1.5G", "-1", "0", "1k", "99999999999T", "1GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
