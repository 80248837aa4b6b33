//! The long lists of tokenizers' JSON, handed over element by element, so that no tree of half a million nodes is built.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Hands each element of a list to a function; gives whether there was a list, or `null`.
pub(super) struct Each<F, T>(F, PhantomData<T>);

impl<T, F: FnMut(T)> Each<F, T> {
    pub fn new(function: F) -> Self {
        Each(function, PhantomData)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> DeserializeSeed<'de> for Each<F, T> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Each<F, T> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut list: S) -> Result<bool, S::Error> {
        while let Some(element) = list.next_element()? {
            (self.0)(element);
        }
        Ok(true)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Hands each piece of a vocabulary to a function, with its id and its score: a map from pieces to ids, or a list of
/// pieces with scores, whose ids are their places.
pub(super) struct Vocabulary<F>(pub F);

impl<'de, F: FnMut(u64, &str, Option<f32>)> DeserializeSeed<'de> for Vocabulary<F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(u64, &str, Option<f32>)> Visitor<'de> for Vocabulary<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some((Text(piece), id)) = map.next_entry::<Text<'de>, u64>()? {
            (self.0)(id, &piece, None);
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut list: S) -> Result<(), S::Error> {
        let mut id = 0;
        while let Some((Text(piece), score)) = list.next_element::<(Text<'de>, f64)>()? {
            // Scores are 32-bit numbers that were written out in decimals.
            #[allow(clippy::cast_possible_truncation)]
            (self.0)(id, &piece, Some(score as f32));
            id += 1;
        }
        Ok(())
    }
}

/// A merge: `"a b"` or, since 2024, `["a", "b"]`; `None` for a line without a blank.
pub(super) struct Pair<'a>(pub Option<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Deserialize<'de> for Pair<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Pair<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge")
            }

            fn visit_borrowed_str<E>(self, line: &'de str) -> Result<Pair<'de>, E> {
                Ok(Pair(line.split_once(' ').map(|(left, right)| (left.into(), right.into()))))
            }

            fn visit_str<E>(self, line: &str) -> Result<Pair<'de>, E> {
                let owned = |(left, right): (&str, &str)| (left.to_string().into(), right.to_string().into());
                Ok(Pair(line.split_once(' ').map(owned)))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut pair: S) -> Result<Pair<'de>, S::Error> {
                let wrong = |length| Error::invalid_length(length, &"a pair of pieces");
                let Text(left) = pair.next_element()?.ok_or_else(|| wrong(0))?;
                let Text(right) = pair.next_element()?.ok_or_else(|| wrong(1))?;
                match pair.next_element::<IgnoredAny>()? {
                    Some(_) => Err(wrong(3)),
                    None => Ok(Pair(Some((left, right)))),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}
