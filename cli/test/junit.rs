//! The report as JUnit's XML: a suite for each kernel on each adapter.

use std::time::Duration;

use anyhow::Result;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::case::{CaseEntry, Kind};
use super::document::Document;
use super::sums::kernels;

/// The document as XML.
///
/// # Errors
/// When it cannot be put into XML.
pub(crate) fn report(document: &Document) -> Result<String> {
    let mut report = Report::new("qwgpu test");
    report.set_time(Duration::from_secs_f64(document.seconds));
    for adapter in &document.adapters {
        for kernel in kernels(document.cases_of(adapter)) {
            let cases = document.cases_of(adapter).filter(|case| case.kernel == kernel);
            let mut suite = TestSuite::new(format!("{} {kernel}", adapter.label()));
            suite.set_time(Duration::from_secs_f64(cases.clone().map(|case| case.seconds).sum()));
            suite.add_property(("driver", adapter.driver.as_str()));
            suite.add_property(("qwgpu", document.qwgpu));
            suite.add_property(("date", document.date.as_str()));
            suite.add_property(("interrupted", if document.interrupted { "true" } else { "false" }));
            suite.add_test_cases(cases.map(|case| test_case(document, case)));
            report.add_test_suite(suite);
        }
    }
    Ok(report.to_string()?)
}

fn test_case(document: &Document, case: &CaseEntry) -> TestCase {
    let reason = case.reason.as_deref().unwrap_or_default();
    let status = match case.status {
        Kind::Passed => TestCaseStatus::success(),
        Kind::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason);
            status
        }
        Kind::Failed => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_message(reason)
                .set_type("mismatch")
                .set_description(details(document, case));
            status
        }
    };
    let mut test = TestCase::new(format!("{} {}", case.mode, case.name), status);
    test.set_classname(case.kernel.as_str())
        .set_time(Duration::from_secs_f64(case.seconds));
    test
}

fn details(document: &Document, case: &CaseEntry) -> String {
    let mut text = document.repro(case).map_or_else(String::new, |repro| repro + "\n");
    for mismatch in &case.mismatches {
        text += &format!("{}: {}, expected {}\n", mismatch.at, mismatch.got, mismatch.expected);
    }
    text
}
