//! Makes a history that fails smaller, as long as it fails by the same rule.

use crate::coverage::Coverage;
use crate::scenario::Scenario;
use crate::world::run;

/// So many smaller histories are tried at most.
const TRIES: u32 = 400;

/// The smallest history that was found in which the same rule does not hold. Deterministic.
pub fn shrink(scenario: &Scenario, rule: &str) -> Scenario {
    smallest(scenario, |one| fails(one, rule))
}

/// The smallest that was found of which `holds` is true, as it is of the first.
pub(crate) fn smallest(scenario: &Scenario, holds: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut best = scenario.clone();
    let mut tries = 0;
    loop {
        let smaller = candidates(&best).into_iter().find(|candidate| {
            tries += 1;
            tries <= TRIES && holds(candidate)
        });
        match smaller {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

fn fails(scenario: &Scenario, rule: &str) -> bool {
    let outcome = run(scenario, &mut Coverage::default());
    outcome
        .violation
        .is_some_and(|violation| violation.rule == rule)
}

/// Each with something less.
fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = scenario.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    if scenario.pods.len() > 1 {
        for place in 0..scenario.pods.len() {
            add(&|one| drop(one.pods.remove(place)));
        }
    }
    for place in 0..scenario.faults.len() {
        add(&|one| {
            one.faults.remove(place);
        });
    }
    if scenario.percent > 0 {
        add(&|one| one.percent = 0);
        add(&|one| one.percent /= 2);
    }
    for (place, planned) in scenario.pods.iter().enumerate() {
        let spec = planned.pod.spec.as_ref();
        let inits = spec
            .and_then(|spec| spec.init_containers.as_ref())
            .map_or(0, Vec::len);
        let mains = spec.map_or(0, |spec| spec.containers.len());
        for which in 0..inits {
            add(&|one| {
                let pod = one.pods.get_mut(place);
                if let Some(spec) = pod.and_then(|planned| planned.pod.spec.as_mut()) {
                    spec.init_containers
                        .iter_mut()
                        .for_each(|all| drop(all.remove(which)));
                }
            });
        }
        for which in (0..mains).filter(|_| mains > 1) {
            add(&|one| {
                let pod = one.pods.get_mut(place);
                if let Some(spec) = pod.and_then(|planned| planned.pod.spec.as_mut()) {
                    drop(spec.containers.remove(which));
                }
            });
        }
    }
    for place in 0..scenario.pods.len() {
        if scenario.pods.get(place).is_some_and(|one| one.after > 0) {
            add(&|one| {
                one.pods
                    .get_mut(place)
                    .into_iter()
                    .for_each(|one| one.after = 0)
            });
        }
    }
    if scenario.calm > 0 {
        add(&|one| one.calm = 0);
    }
    for part in [2, 4] {
        if scenario.length > 20 {
            add(&|one| one.length -= one.length / part);
        }
    }
    all
}
