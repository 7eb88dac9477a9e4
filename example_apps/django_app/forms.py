"""What a neighbour fills in."""

from __future__ import annotations

from django import forms

from .models import Loan


class LoanForm(forms.ModelForm):  # type: ignore[type-arg]  # subscriptable only with the stubs
    class Meta:
        model = Loan
        fields = ("neighbour",)
        widgets = {"neighbour": forms.TextInput(attrs={"placeholder": "Your name", "autocomplete": "name"})}  # noqa: RUF012 - Django's way
        labels = {"neighbour": "Lend it to"}  # noqa: RUF012
