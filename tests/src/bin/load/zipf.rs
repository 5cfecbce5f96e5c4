//! Texts whose words are as frequent as in a language: the word of rank n comes about 1/n as often
//! as the first one (Zipf's law).

use fastrand::Rng;

/// About as many words as people use in a large chat, names and mistyped words included.
const WORDS: usize = 100_000;
/// The most frequent words have one syllable.
const SHORT_WORDS: usize = 60;
const CONSONANTS: [&str; 20] = [
    "b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr",
    "ch", "sh",
];
const VOWELS: [&str; 7] = ["a", "e", "i", "o", "u", "ea", "ou"];
const ENDS: [&str; 6] = ["", "", "n", "s", "t", "r"];

pub struct Zipf {
    /// By rank.
    words: Vec<String>,
    /// The sums of the weights up to each word.
    sums: Vec<f64>,
}

impl Zipf {
    pub fn new() -> Self {
        let mut random = Rng::with_seed(1);
        let mut words = Vec::with_capacity(WORDS);
        let mut known = std::collections::HashSet::new();
        while words.len() < WORDS {
            let syllables = match words.len() < SHORT_WORDS {
                true => 1,
                false => [1, 2, 2, 3, 3, 4][random.usize(..6)],
            };
            let mut word = String::new();
            for _ in 0..syllables {
                word += CONSONANTS[random.usize(..CONSONANTS.len())];
                word += VOWELS[random.usize(..VOWELS.len())];
            }
            word += ENDS[random.usize(..ENDS.len())];
            if known.insert(word.clone()) {
                words.push(word);
            }
        }
        let mut sum = 0.0;
        let sums = (0..WORDS).map(|rank| {
            sum += 1.0 / (rank as f64 + 2.7);
            sum
        });
        Zipf {
            sums: sums.collect(),
            words,
        }
    }

    pub fn word(&self, rank: usize) -> &str {
        &self.words[rank]
    }

    /// A message: mostly some eight words, sometimes one, sometimes sixty.
    pub fn text(&self, random: &mut Rng) -> String {
        // The logarithm of the number of words is normally distributed.
        let normal: f64 = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let count = (2.0 + 0.8 * normal).exp().clamp(1.0, 60.0) as usize;
        let all = self.sums.last().copied().unwrap_or_default();
        let mut text = String::new();
        for index in 0..count {
            let at = random.f64() * all;
            let rank = self.sums.partition_point(|sum| *sum < at);
            if index > 0 {
                text.push(' ');
            }
            text += &self.words[rank.min(WORDS - 1)];
        }
        text
    }
}
