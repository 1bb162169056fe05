//! `flights_by_hour` against a loop over the table that keeps its own time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::run::{data, example, unpacked};

const FLIGHTS: &str = "flights/flights-2013-01.csv.gz";

/// Minutes since the month began; windows are numbered by hour.
fn minutes(cells: &[&str]) -> i64 {
    let clock: i64 = cells[3].parse().unwrap_or_else(|_| cells[4].parse().unwrap());
    (cells[2].parse::<i64>().unwrap() - 1) * 24 * 60 + clock / 100 * 60 + clock % 100
}

fn text(minutes: i64) -> String {
    let (day, hour, minute) = (minutes / (24 * 60), minutes / 60 % 24, minutes % 60);
    // The last minutes of the month may be a departure at 24:00.
    if day == 31 {
        format!("2013-02-01 {hour:02}:{minute:02}")
    } else {
        format!("2013-01-{:02} {hour:02}:{minute:02}", day + 1)
    }
}

/// The last line of each hour and airport, and the lines of what is too late, if hours are kept for so many more.
fn computed(lateness: i64) -> (BTreeMap<String, String>, Vec<String>) {
    let text_of_table = unpacked(FLIGHTS);
    let mut hours = BTreeMap::<(i64, String), (u64, u64, i64)>::new();
    let mut late = Vec::new();
    // Hours that have passed.
    let mut passed = i64::MIN / 2;
    for line in text_of_table.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let at = minutes(&cells);
        if at / 60 + lateness < passed {
            late.push(format!("{},{},{} {}", text(at), cells[12], cells[9], cells[10]));
        } else {
            let (left, cancelled, delay) = hours.entry((at / 60, cells[12].to_owned())).or_default();
            *(if cells[3] == "NA" { cancelled } else { left }) += 1;
            *delay += cells[5].parse().unwrap_or(0);
        }
        passed = passed.max((at - 15).div_euclid(60));
    }
    late.sort();
    let lines = hours.into_iter().map(|((hour, airport), (left, cancelled, delay))| {
        let mean = delay as f64 / left.max(1) as f64;
        let start = format!("{},{airport}", text(hour * 60));
        (start.clone(), format!("{start},{left},{cancelled},{mean:.2}"))
    });
    (lines.collect(), late)
}

fn lines(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    files.collect::<String>().lines().map(str::to_owned).collect()
}

#[test]
fn hours_of_january_and_what_is_too_late_for_them() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (runtime, lateness)) in [
        (&["-p", "1"] as &[&str], 6),
        (&["-p", "3"], 6),
        (&["-p", "2", "--workers", "2"], 6),
        (&["-p", "2"], 0),
        (&["-p", "2"], 48),
    ]
    .into_iter()
    .enumerate()
    {
        let [to, late] = ["hours", "late"].map(|name| folder.path().join(format!("{name}-{number}")));
        let hours = lateness.to_string();
        let words = [
            "--flights",
            &data(FLIGHTS),
            "--to",
            to.to_str().unwrap(),
            "--late",
            late.to_str().unwrap(),
            "--lateness",
            &hours,
        ];
        example("flights_by_hour", &[&words, runtime].concat()).succeeded();
        let expect = computed(lateness);

        // The last line of an hour counts the most flights.
        let mut told = BTreeMap::<String, (u64, String)>::new();
        for line in lines(&to) {
            let cells: Vec<&str> = line.split(',').collect();
            let flights = cells[2].parse::<u64>().unwrap() + cells[3].parse::<u64>().unwrap();
            let best = told.entry(format!("{},{}", cells[0], cells[1])).or_default();
            *best = best.clone().max((flights, line));
        }
        let told: BTreeMap<String, String> = told.into_iter().map(|(hour, (_, line))| (hour, line)).collect();
        assert_eq!(told, expect.0, "{runtime:?} {lateness}");
        let mut told = lines(&late);
        told.sort();
        assert_eq!(told, expect.1, "{runtime:?} {lateness}");
        assert_eq!(told.is_empty(), lateness == 48, "there is something that comes too late, unless all is waited for");
    }
}
