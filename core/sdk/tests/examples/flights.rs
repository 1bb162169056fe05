//! `flights` against a loop over the table.

use std::collections::BTreeMap;

use crate::run::{data, example, unpacked};

const FLIGHTS: &str = "flights/flights-2013-01.csv.gz";

/// A row of a table: flights, departed, mean delays at departure and arrival, late in percent, worst.
type Row = [String; 6];

/// The rows of both tables by carrier code or hour, as the example prints them.
fn printed(lines: &[&str]) -> (BTreeMap<String, Row>, BTreeMap<String, Row>) {
    let gap = lines.iter().position(|line| line.is_empty()).expect("an empty line between the tables");
    let (carriers, hours) = (&lines[..gap], &lines[gap + 1..]);
    assert!(carriers[0].starts_with("Carrier") && hours[0].starts_with("Hour"), "{} {}", carriers[0], hours[0]);
    (table(carriers), table(hours))
}

fn table(lines: &[&str]) -> BTreeMap<String, Row> {
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "the columns are not aligned: {lines:#?}");
    let rows = lines[1..].iter().map(|line| {
        let cells: Vec<&str> = line.split_whitespace().filter(|cell| *cell != "%").collect();
        let numbers: Vec<String> = cells[cells.len() - 6..].iter().map(|cell| (*cell).to_owned()).collect();
        (cells[0].to_owned(), Row::try_from(numbers).unwrap())
    });
    rows.collect()
}

/// The same, from a loop over the table.
fn computed() -> (BTreeMap<String, Row>, BTreeMap<String, Row>) {
    let text = unpacked(FLIGHTS);
    let (mut carriers, mut hours) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let delays: (Option<i64>, Option<i64>) = (cells[5].parse().ok(), cells[8].parse().ok());
        carriers.entry(cells[9].to_owned()).or_insert_with(Vec::new).push(delays);
        hours.entry(cells[16].to_owned()).or_insert_with(Vec::new).push(delays);
    }
    let rows = |groups: BTreeMap<String, Vec<_>>| groups.into_iter().map(|(key, delays)| (key, row(&delays))).collect();
    (rows(carriers), rows(hours))
}

fn row(delays: &[(Option<i64>, Option<i64>)]) -> Row {
    let departures: Vec<i64> = delays.iter().filter_map(|(departure, _)| *departure).collect();
    let arrivals: Vec<i64> = delays.iter().filter_map(|(_, arrival)| *arrival).collect();
    let mean = |minutes: &[i64]| format!("{:.2}", minutes.iter().sum::<i64>() as f64 / minutes.len() as f64);
    let late = departures.iter().filter(|minutes| **minutes > 15).count();
    [
        delays.len().to_string(),
        departures.len().to_string(),
        mean(&departures),
        mean(&arrivals),
        format!("{:.1}", 100.0 * late as f64 / departures.len() as f64),
        departures.iter().max().unwrap().to_string(),
    ]
}

#[test]
fn delays_of_january_by_carrier_and_by_hour() {
    let expected = computed();
    for runtime in [&["-p", "1"] as &[&str], &["-p", "3"], &["-p", "2", "--workers", "2"]] {
        let files = ["--flights", &data(FLIGHTS), "--airlines", &data("flights/airlines.csv")];
        let ran = example("flights", &[&files, runtime].concat());
        let (carriers, hours) = printed(&ran.lines());
        assert_eq!((&carriers, &hours), (&expected.0, &expected.1), "{runtime:?}");

        // Figures that others computed.
        for (carrier, departed, mean) in [
            ("UA", "4605", "8.33"),
            ("EV", "3989", "24.23"),
            ("HA", "31", "54.39"),
            ("OO", "1", "67.00"),
            ("US", "1555", "1.82"),
        ] {
            assert_eq!([&carriers[carrier][1], &carriers[carrier][2]], [departed, mean], "{carrier}");
        }
        for (hour, departed, mean) in [("5", "157", "2.80"), ("19", "1622", "19.09"), ("23", "68", "2.93")] {
            assert_eq!([&hours[hour][1], &hours[hour][2]], [departed, mean], "{hour}");
        }
        let united = ran.stdout.lines().find(|line| line.starts_with("UA")).unwrap();
        assert!(united.contains("United Air Lines Inc."), "{united}");
    }
}

#[test]
fn a_carrier_that_is_not_in_the_table_of_names_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("airlines.csv");
    std::fs::write(&names, "carrier,name\nUA,United\n").unwrap();
    let ran = example("flights", &["--flights", &data(FLIGHTS), "--airlines", names.to_str().unwrap()]);
    assert_eq!(printed(&ran.lines()).0, computed().0);
    assert_eq!(ran.stdout.matches("(unknown)").count(), 15);
}
