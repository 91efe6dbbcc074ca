//! A small mutator: the same seed makes the same inputs.

/// Numbers that lengths, counts and dates break at.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Dice, by SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 if there is nothing below it.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len());
        from.get(at)
    }
}

/// One to eight changes to an input, which stays within `longest` bytes.
pub(crate) fn mutate(dice: &mut Dice, input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]], longest: usize) {
    for _ in 0..=dice.below(8) {
        change(dice, input, others, words);
        input.truncate(longest);
    }
}

fn change(dice: &mut Dice, input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]]) {
    let at = dice.below(input.len() + 1);
    let length = dice.below(17).min(input.len().saturating_sub(at));
    match dice.below(10) {
        0 => flip(dice, input, at),
        1 => {
            let byte = u8::try_from(dice.next() & 0xff).unwrap_or(0);
            put(input, at, &[byte]);
        }
        2 => {
            let bytes = number(dice);
            put(input, at, &bytes);
        }
        3 => drop(input.drain(at..at + length)),
        4 => {
            let piece: Vec<u8> = input.iter().skip(at).take(length).copied().collect();
            let times = 1 + dice.below(64);
            insert(input, at, &piece.repeat(times));
        }
        5 => {
            let bytes = number(dice);
            insert(input, at, &bytes);
        }
        6 => {
            if let Some(word) = dice.pick(words) {
                insert(input, at, word);
            }
        }
        7 => {
            if let Some(word) = dice.pick(words) {
                put(input, at, word);
            }
        }
        8 => {
            if let Some(other) = dice.pick(others) {
                let from = dice.below(other.len() + 1);
                input.truncate(at);
                input.extend(other.iter().skip(from));
            }
        }
        _ => input.truncate(at),
    }
}

fn flip(dice: &mut Dice, input: &mut [u8], at: usize) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

/// One of the numbers, in some width and order.
fn number(dice: &mut Dice) -> Vec<u8> {
    let number = dice.pick(NUMBERS).copied().unwrap_or(0);
    let width = 1 << dice.below(4);
    let mut bytes: Vec<u8> = number.to_le_bytes().into_iter().take(width).collect();
    if dice.below(2) == 0 {
        bytes.reverse();
    }
    bytes
}

fn put(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = (at + bytes.len()).min(input.len());
    input.splice(at..end, bytes.iter().copied());
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_inputs_again_and_none_is_too_long() {
        let inputs = |seed| {
            let mut dice = Dice::new(seed);
            let mut made = Vec::new();
            for _ in 0..500 {
                let mut input = b"a small input".to_vec();
                mutate(&mut dice, &mut input, &[b"another".to_vec()], &[b"word"], 64);
                assert!(input.len() <= 64);
                made.push(input);
            }
            made
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
