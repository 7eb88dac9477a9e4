"""The librarian's view."""

from __future__ import annotations

from django.contrib import admin

from .models import Loan, Tool


class LoanInline(admin.TabularInline):  # type: ignore[type-arg]  # subscriptable only with the stubs
    model = Loan
    extra = 0


@admin.register(Tool)
class ToolAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "shelf", "copies")
    list_filter = ("shelf",)
    search_fields = ("name",)
    inlines = (LoanInline,)


@admin.register(Loan)
class LoanAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("tool", "neighbour", "taken", "returned")
    list_filter = ("returned",)
    date_hierarchy = "taken"
    list_select_related = ("tool",)
