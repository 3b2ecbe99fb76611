"""Fixtures: packages that are installed for one test."""

from made_packages import packages as packages
