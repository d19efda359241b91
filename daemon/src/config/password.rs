//! A password that no error shows.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A password. Unlike a plain string it never appears in an error about its type; it is erased when dropped.
pub struct Password(Zeroizing<String>);

impl Password {
    /// What it is.
    pub fn into_text(self) -> Zeroizing<String> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PasswordVisitor)
    }
}

struct PasswordVisitor;

impl PasswordVisitor {
    fn not_text<E: Error>() -> E {
        E::custom("expected a text in quotation marks")
    }
}

/// Takes a value of any type, so that the library never describes one.
macro_rules! not_text {
    ($($visit:ident($type:ty))*) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<Password, E> {
            Err(Self::not_text())
        })*
    };
}

impl<'de> Visitor<'de> for PasswordVisitor {
    type Value = Password;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotation marks")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Password, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Password, E> {
        Ok(Password(Zeroizing::new(text)))
    }

    not_text! {
        visit_i64(i64) visit_i128(i128) visit_u64(u64) visit_u128(u128) visit_f64(f64) visit_bool(bool)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Password, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Err(Self::not_text())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Password, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Err(Self::not_text())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::ConfigFile;
    use super::*;

    #[derive(Deserialize)]
    struct File {
        password: Password,
    }

    fn read(value: &str) -> Result<Password, String> {
        let file: Result<File, _> =
            ConfigFile(Path::new("a.toml")).parse(&format!("password = {value}\n"));
        file.map(|file| file.password)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn no_error_shows_a_password() {
        for value in [
            "424242",
            "-424242",
            "424242.5",
            "424242x",
            "0x424242zz",
            "word424242",
            "1424242-01-01",
            "\"424242",
            "'424242",
            "\"\\424242\"",
            "\"a\" 424242",
            "[\"424242\"]",
            "{ a = \"424242\" }",
        ] {
            let said = read(value).err().unwrap();
            assert!(said.contains("line 1, password: "), "{value}: {said}");
            assert!(!said.contains("424242"), "{value}: {said}");
        }
        assert_eq!(
            read("\"sesame\"").ok().unwrap().into_text().as_str(),
            "sesame"
        );
    }
}
