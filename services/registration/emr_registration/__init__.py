"""Patients and staff: enrolment, EMR creation, erasure."""
