//! The list of faults: what is done to every pairing.

mod clocks;
mod disks;
mod messages;
mod processes;

use crate::fault::Fault;

/// All of them, in the order of the page.
pub(crate) fn all() -> Vec<Fault> {
    let mut all = processes::all();
    all.extend(messages::all());
    all.extend(disks::all());
    all.extend(clocks::all());
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fault::{Group, When};

    #[test]
    fn there_are_enough_of_them_and_each_has_a_name_of_its_own() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|fault| fault.id).collect();
        assert_eq!(names.len(), all.len(), "two faults have one name");
        assert!(all.len() >= 40, "only {} faults", all.len());
        for group in Group::ALL {
            assert!(all.iter().any(|fault| fault.group == group), "{group:?} has no fault");
        }
    }

    #[test]
    fn whatever_waits_for_a_message_has_a_rule_for_one() {
        for fault in all() {
            let waits =
                matches!((fault.when, fault.act), (When::Struck, act) if !matches!(act, crate::fault::Act::Story(_)));
            assert!(
                !waits || !fault.rules.is_empty() || fault.bytes != netfault::proxy::ByteRule::Pass,
                "{}",
                fault.id
            );
        }
    }
}
