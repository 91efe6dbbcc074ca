//! `$VAR` and `${VAR}` in values, with the rules of Go's `os.Expand`, because `router.yml` was written for them.
//!
//! Source: `openziti/ziti:common/config/env.go`.

/// Replaces variables in `text`. A variable that `env` does not know becomes empty and is told to `unset`.
///
/// A `$` that no name follows stays; `${}` and an unclosed `${` vanish.
pub fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>, unset: &mut dyn FnMut(&str)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or("");
        let (name, next) = match after.strip_prefix('{') {
            Some(inside) => match inside.split_once('}') {
                Some((name, next)) if is_name(name) => (name, next),
                Some(("", next)) => {
                    rest = next;
                    continue;
                }
                // Go eats only the two characters `${` of anything else.
                _ => {
                    rest = inside;
                    continue;
                }
            },
            None => {
                let end = match after.chars().next() {
                    Some(c) if is_special(c) => 1,
                    _ => after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len()),
                };
                after.split_at(end)
            }
        };
        if name.is_empty() {
            out.push('$');
        } else if let Some(value) = env(name) {
            out.push_str(&value);
        } else {
            unset(name);
        }
        rest = next;
    }
    out.push_str(rest);
    out
}

fn is_special(c: char) -> bool {
    matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9')
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if is_special(c) => true,
        (None, _) => false,
        _ => name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
    }
}

#[cfg(test)]
mod tests {
    use super::expand;
    use proptest::prelude::*;

    fn with_home(text: &str) -> (String, Vec<String>) {
        let mut unset = Vec::new();
        let env = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "ODD" => Some("$HOME".to_owned()),
            _ => None,
        };
        let out = expand(text, &env, &mut |name| unset.push(name.to_owned()));
        (out, unset)
    }

    #[test]
    fn variables_are_replaced_once_and_lone_dollars_stay() {
        for (text, out) in [
            ("$HOME/x.pem", "/root/x.pem"),
            ("${HOME}x", "/rootx"),
            ("$ODD", "$HOME"),
            ("5$ and $/", "5$ and $/"),
            ("a${}b", "ab"),
            ("a${HOME", "aHOME"),
            ("plain", "plain"),
            ("\u{20ac}$HOME\u{20ac}", "\u{20ac}/root\u{20ac}"),
        ] {
            assert_eq!(with_home(text).0, out, "{text}");
        }
    }

    #[test]
    fn an_unset_variable_becomes_empty_and_is_reported() {
        assert_eq!(with_home("a${NOPE}b$NADA"), ("ab".to_owned(), vec!["NOPE".to_owned(), "NADA".to_owned()]));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_expansion_panic(text in ".*") {
            let _ = with_home(&text);
        }
    }
}
