"""PlatformIO's test runner for programs that print `PASS name` or `FAIL name` a line and `END`: Unity is in its registry."""

from platformio.public import TestCase, TestRunnerBase, TestStatus


class CustomTestRunner(TestRunnerBase):
    def on_testing_line_output(self, line):
        word, _, name = line.strip().partition(" ")
        if word in ("PASS", "FAIL"):
            status = TestStatus.PASSED if word == "PASS" else TestStatus.FAILED
            self.test_suite.add_case(TestCase(name=name, status=status, stdout=line))
        if word == "END":
            self.test_suite.on_finish()
