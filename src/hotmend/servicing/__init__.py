"""The rules of the servicing program: level, line, eligibility, forecast, windows. Pure: facts in, answers out."""
