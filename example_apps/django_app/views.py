"""The pages. Nothing in here knows of the pool: a view queries, and the backend borrows and gives back."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from pymysqlpool_django.pools import stats
from pymysqlpool_django.views import as_dict

from .forms import LoanForm
from .models import Loan, Tool


def shelves(request: HttpRequest) -> HttpResponse:
    """All tools, or those whose name matches."""
    wanted = request.GET.get("q", "").strip()
    tools = Tool.objects.with_numbers()
    if wanted:
        tools = tools.filter(name__icontains=wanted)
    recent = Loan.objects.select_related("tool")[:8]
    return render(request, "library/shelves.html", {"tools": tools, "wanted": wanted, "recent": recent})


def tool(request: HttpRequest, pk: int) -> HttpResponse:
    """One tool and its loans; POST lends it."""
    if request.method == "POST":
        return _lend(request, pk)
    return _show_tool(request, pk, LoanForm())


def _show_tool(request: HttpRequest, pk: int, form: LoanForm, status: int = 200) -> HttpResponse:
    found = get_object_or_404(Tool.objects.with_numbers(), pk=pk)
    context = {"tool": found, "loans": found.loans.all()[:30], "form": form}
    return render(request, "library/tool.html", context, status=status)


def _lend(request: HttpRequest, pk: int) -> HttpResponse:
    """The request is one transaction (ATOMIC_REQUESTS), so the row stays locked until the loan is written."""
    wanted = get_object_or_404(Tool.objects.select_for_update(), pk=pk)
    form = LoanForm(request.POST)
    if not form.is_valid():
        return _show_tool(request, pk, form, 422)
    if wanted.loans.filter(returned=None).count() >= wanted.copies:
        form.add_error(None, "The last one has just gone.")
        return _show_tool(request, pk, form, 409)
    loan = form.save(commit=False)
    loan.tool = wanted
    loan.save()
    transaction.on_commit(lambda: messages.success(request, f"{wanted} goes to {loan.neighbour}."))
    return redirect(wanted)


@require_POST
def give_back(request: HttpRequest, pk: int) -> HttpResponse:
    loan = get_object_or_404(Loan.objects.select_for_update(), pk=pk, returned=None)
    loan.returned = timezone.now()
    loan.save(update_fields=["returned"])
    return redirect(loan.tool)


def tools_json(request: HttpRequest) -> JsonResponse:
    """For other programs; `session` is the server's number for the connection that answered."""
    tools = Tool.objects.with_numbers().values("id", "name", "shelf", "copies", "out", "left")
    return JsonResponse({"session": _session(), "tools": list(tools)})


@transaction.non_atomic_requests  # Django allows ATOMIC_REQUESTS for synchronous views only
async def pulse(request: HttpRequest) -> JsonResponse:
    """An asynchronous view with the asynchronous ORM."""
    numbers: dict[str, Any] = {
        "tools": await Tool.objects.acount(),
        "out": await Loan.objects.filter(returned=None).acount(),
    }
    last = await Loan.objects.select_related("tool").order_by("-taken").afirst()
    return JsonResponse({**numbers, "last": str(last)})


@transaction.non_atomic_requests  # it needs no transaction
def pool(request: HttpRequest) -> HttpResponse:
    """The numbers of the pool in the process that answers, as a page.

    They are for everyone because this is a demo. `pool_status`, which gives them to programs, is for staff only.
    """
    numbers = [{**as_dict(one), "reasons": sorted(one.discarded.items())} for one in stats().get("default", [])]
    return render(request, "library/pool.html", {"pools": numbers})


def missing(request: HttpRequest, exception: Exception) -> HttpResponse:
    """An error page that queries: under ASGI Django renders it in another thread than its request."""
    suggestion = Tool.objects.with_numbers().filter(left__gt=0).order_by("?").first()
    return render(request, "library/missing.html", {"suggestion": suggestion}, status=404)


def _session() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return int(cursor.fetchone()[0])
