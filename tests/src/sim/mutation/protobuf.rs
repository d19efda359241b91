//! A protobuf message as a tree, without its schema.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Deepest nesting that is looked for.
const DEEPEST: u8 = 8;

/// The fields of a message, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(Vec<Field>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    /// Bytes that can be read as a message.
    Message(Tree),
}

impl Tree {
    /// None: these bytes are no message, or not the shortest ones of it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let tree = Self::nested(bytes, 0)?;
        (tree.encode() == bytes).then_some(tree)
    }

    fn nested(mut bytes: &[u8], depth: u8) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let value = match key & 7 {
                0 => Value::Varint(varint(&mut bytes)?),
                1 => Value::Fixed64(*take(&mut bytes, 8)?.first_chunk()?),
                5 => Value::Fixed32(*take(&mut bytes, 4)?.first_chunk()?),
                2 => {
                    let len = usize::try_from(varint(&mut bytes)?).ok()?;
                    let inner = take(&mut bytes, len)?;
                    let nested = (depth < DEEPEST && !inner.is_empty())
                        .then(|| Self::nested(inner, depth + 1))
                        .flatten()
                        .filter(|nested| nested.encode() == inner);
                    nested.map_or_else(|| Value::Bytes(inner.to_vec()), Value::Message)
                }
                _ => return None,
            };
            let number = key >> 3;
            if number == 0 {
                return None;
            }
            fields.push(Field { number, value });
        }
        Some(Self(fields))
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for Field { number, value } in &self.0 {
            let (kind, content) = match value {
                Value::Varint(value) => {
                    put(&mut out, number << 3);
                    put(&mut out, *value);
                    continue;
                }
                Value::Fixed64(bytes) => (1, bytes.to_vec()),
                Value::Fixed32(bytes) => (5, bytes.to_vec()),
                Value::Bytes(bytes) => (2, bytes.clone()),
                Value::Message(tree) => (2, tree.encode()),
            };
            put(&mut out, number << 3 | kind);
            if kind == 2 {
                put(&mut out, content.len() as u64);
            }
            out.extend(content);
        }
        out
    }

    /// Every byte string in it.
    pub fn byte_strings(&self, each: &mut impl FnMut(&[u8])) {
        for field in &self.0 {
            match &field.value {
                Value::Bytes(bytes) => each(bytes),
                Value::Message(tree) => tree.byte_strings(each),
                _ => {}
            }
        }
    }

    /// Changes one place. `seen` are byte strings from elsewhere.
    pub fn mutate(&mut self, dice: &mut StdRng, seen: &[Vec<u8>]) {
        if self.0.is_empty() {
            return;
        }
        let place = dice.random_range(0..self.0.len());
        let descends = dice.random_range(0..8) > 0;
        match &mut self.0[place].value {
            Value::Message(inner) if descends && !inner.0.is_empty() => inner.mutate(dice, seen),
            _ if dice.random_range(0..4) == 0 => self.rearrange(dice, place),
            Value::Varint(value) => *value = number(dice, *value),
            Value::Fixed64(bytes) => flip(dice, bytes),
            Value::Fixed32(bytes) => {
                let value = u32::from_le_bytes(*bytes);
                *bytes = (number(dice, value.into()) as u32).to_le_bytes();
            }
            Value::Bytes(bytes) => spoil(dice, bytes, seen),
            Value::Message(_) => self.rearrange(dice, place),
        }
    }

    /// One field is missing, there more than once, or in another place.
    fn rearrange(&mut self, dice: &mut StdRng, place: usize) {
        let other = dice.random_range(0..self.0.len());
        match dice.random_range(0..4) {
            0 => drop(self.0.remove(place)),
            1 => {
                let copies = [1, 1, 2, 300][dice.random_range(0..4)];
                let copy = self.0[place].clone();
                self.0
                    .splice(place..place, std::iter::repeat_n(copy, copies));
            }
            2 => self.0.swap(place, other),
            _ => self.0[place].value = self.0[other].value.clone(),
        }
    }
}

fn number(dice: &mut StdRng, before: u64) -> u64 {
    let limits = [
        0,
        1,
        2,
        255,
        65_535,
        u64::from(u32::MAX),
        1 << 32,
        1 << 63,
        u64::MAX,
    ];
    match dice.random_range(0..6) {
        0 => before.wrapping_add(1),
        1 => before.wrapping_sub(1),
        2 => before ^ 1 << dice.random_range(0..64),
        3 => before.wrapping_mul(2),
        4 => dice.random_range(0..300),
        _ => *limits.choose(dice).unwrap_or(&0),
    }
}

fn flip(dice: &mut StdRng, bytes: &mut [u8]) {
    if !bytes.is_empty() {
        let place = dice.random_range(0..bytes.len());
        bytes[place] ^= 1 << dice.random_range(0..8);
    }
}

fn spoil(dice: &mut StdRng, bytes: &mut Vec<u8>, seen: &[Vec<u8>]) {
    let alike: Vec<&Vec<u8>> = seen
        .iter()
        .filter(|other| other.len() == bytes.len() && *other != bytes)
        .collect();
    match dice.random_range(0..8) {
        0..4 if !alike.is_empty() => {
            bytes.clone_from(alike.choose(dice).copied().unwrap_or(&Vec::new()));
        }
        4 => bytes.truncate(dice.random_range(0..=bytes.len())),
        5 => bytes.extend(vec![0; dice.random_range(1..100)]),
        6 => bytes.fill([0, 255][dice.random_range(0..2)]),
        _ => flip(dice, bytes),
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn what_is_parsed_is_written_again_and_changed() {
        let mut tree = Tree::default();
        tree.0.push(Field {
            number: 1,
            value: Value::Varint(300),
        });
        tree.0.push(Field {
            number: 2,
            value: Value::Message(tree.clone()),
        });
        tree.0.push(Field {
            number: 3,
            value: Value::Bytes(vec![255; 32]),
        });
        let bytes = tree.encode();
        assert_eq!(bytes[..3], [8, 172, 2]);
        assert_eq!(Tree::parse(&bytes), Some(tree.clone()));
        assert_eq!(Tree::parse(&bytes[1..]), None);
        let dice = &mut StdRng::seed_from_u64(1);
        let changed = (0..1_000).filter(|_| {
            let mut other = tree.clone();
            other.mutate(dice, &[vec![1; 32]]);
            other != tree
        });
        assert!(changed.count() > 900);
    }
}
